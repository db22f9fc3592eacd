import type { MessageDefinition } from '@foxglove/message-definition';
import { stringify } from '@foxglove/rosmsg';
import { plainTypeName } from './definitions.ts';
import type { Schema } from './types.ts';

/**
 * The schema of a common ROS 2 type by its name, as of Humble, the last release whose recorders left definitions
 * out; undefined for types that are not part of ROS itself.
 */
export async function commonSchema(type: string): Promise<Schema | undefined> {
  const { ros2humble } = await import('@foxglove/rosmsg-msgs-common');
  const known: Readonly<Record<string, MessageDefinition>> = ros2humble;
  const root = own(known, plainTypeName(type));
  if (!root) return undefined;
  const definitions = new Map<string, MessageDefinition>();
  collect(root, known, definitions);
  const [first, ...others] = [...definitions.values()];
  // the type itself goes without a name, as in the files of recorders
  const text = stringify([{ definitions: first?.definitions ?? [] }, ...others]);
  return { name: type, encoding: 'ros2msg', data: new TextEncoder().encode(text) };
}

function collect(
  definition: MessageDefinition,
  known: Readonly<Record<string, MessageDefinition>>,
  found: Map<string, MessageDefinition>,
): void {
  const name = definition.name ?? '';
  if (found.has(name)) return;
  found.set(name, definition);
  for (const field of definition.definitions) {
    const inner = field.isComplex === true ? own(known, field.type) : undefined;
    if (inner) collect(inner, known, found);
  }
}

function own<T>(record: Readonly<Record<string, T>>, name: string): T | undefined {
  return Object.hasOwn(record, name) ? record[name] : undefined;
}
