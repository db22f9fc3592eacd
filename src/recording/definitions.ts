import { createRequire } from 'node:module';
import type { MessageDefinition } from '@foxglove/message-definition';
import type * as Ros2idl from '@foxglove/ros2idl-parser';
import { parse } from '@foxglove/rosmsg';
import { InputError, toError } from '../errors.ts';
import { printable } from './compression.ts';
import { parseRos2 } from './lenient-names.ts';
import type { Channel } from './types.ts';

const require = createRequire(import.meta.url);

/** How the bytes of ROS messages are laid out. */
export type RosLayout = 'cdr' | 'ros1';

/** Heads of the parts of an IDL schema; the parser's own pattern misses names of one letter. */
const IDL_HEAD = /^={80}\r?\nIDL: \S+/gm;

/** The definitions of a ROS message type, its own first. */
export type RosType = {
  readonly layout: RosLayout;
  readonly definitions: readonly MessageDefinition[];
  readonly root: MessageDefinition;
};

/**
 * The definitions that a channel's schema carries, or undefined when it is no ROS type. Payloads under a `ros1msg`
 * schema are in the ROS 1 layout whatever the channel calls them: bags rewrapped as MCAP often say `cdr`.
 * Throws `InputError` when the definitions cannot be parsed.
 */
export function rosTypeOf(channel: Channel): RosType | undefined {
  const { encoding, data, name } = channel.schema;
  const ros1 = encoding === 'ros1msg' || channel.messageEncoding === 'ros1';
  if (!ros1 && channel.messageEncoding !== 'cdr') return undefined;
  if (!ros1 && encoding !== 'ros2msg' && encoding !== 'ros2idl') return undefined;
  const text = new TextDecoder().decode(data);
  let definitions: MessageDefinition[];
  try {
    definitions =
      encoding === 'ros2idl' ? parseIdl(text.replaceAll(IDL_HEAD, '')) : ros1 ? parse(text) : parseRos2(text);
  } catch (thrown) {
    throw new InputError(
      `topic ${printable(channel.topic)}: the definition of ${printable(name)} cannot be parsed (${firstLine(thrown)})`,
      { cause: thrown },
    );
  }
  const root = rootOf(definitions, name);
  if (!root) {
    throw new InputError(
      `topic ${printable(channel.topic)}: expected a definition of ${printable(name)}, found none in its schema`,
    );
  }
  return {
    layout: ros1 ? 'ros1' : 'cdr',
    definitions: [root, ...definitions.filter((definition) => definition !== root)],
    root,
  };
}

/** Loaded when there is IDL: its grammar takes long to build. */
function parseIdl(text: string): MessageDefinition[] {
  const { parseRos2idl } = require('@foxglove/ros2idl-parser') as typeof Ros2idl;
  return parseRos2idl(text);
}

/** The definition of the complex type `name` among those of a schema. */
export function findDefinition(type: RosType, name: string): MessageDefinition | undefined {
  const plain = plainTypeName(name);
  return type.definitions.find(({ name: own }) => own !== undefined && plainTypeName(own) === plain);
}

/** `sensor_msgs/msg/Image`, `sensor_msgs::msg::Image` and `sensor_msgs/Image` are one type: the last of these. */
export function plainTypeName(name: string): string {
  return name.replaceAll('::', '/').replace('/msg/', '/');
}

/** Constants are grouped in modules of their own in IDL; the type is the first definition with fields. */
function rootOf(definitions: readonly MessageDefinition[], name: string): MessageDefinition | undefined {
  const plain = plainTypeName(name);
  const named = definitions.find((definition) => plainTypeName(definition.name ?? '') === plain);
  if (named) return named;
  const isConstants = ({ definitions: fields }: MessageDefinition) =>
    fields.length > 0 && fields.every((field) => field.isConstant === true);
  return definitions.find((definition) => definition.name === undefined || !isConstants(definition));
}

function firstLine(thrown: unknown): string {
  return printable(toError(thrown).message.split('\n', 1)[0] ?? '');
}
