import { createRequire } from 'node:module';
import type * as Ros1 from '@foxglove/rosmsg-serialization';
import { MessageReader as CdrMessageReader } from '@foxglove/rosmsg2-serialization';
import { InputError, toError } from '../errors.ts';
import { printable } from './compression.ts';
import { rosTypeOf } from './definitions.ts';
import type { RosType } from './definitions.ts';
import { createProtobufDecoder } from './protobuf.ts';
import type { Channel, Decoder } from './types.ts';

const require = createRequire(import.meta.url);

/**
 * The decoder of a channel's messages: `cdr` with `ros2msg` or `ros2idl`, `ros1`, `protobuf`, `json`. Another
 * encoding is an `InputError` that names topic and encoding; a payload that does not decode is one too, thrown by
 * the decoder. Typed arrays in the result may be views of the payload.
 */
export function createDecoder(channel: Channel): Decoder {
  const decode = decoderOf(channel);
  return (data) => {
    try {
      return decode(data);
    } catch (thrown) {
      throw new InputError(
        `topic ${printable(channel.topic)}: expected a message of ${printable(channel.schema.name)} (${channel.messageEncoding}), found ${data.byteLength} bytes that do not decode: ${toError(thrown).message}`,
        { cause: thrown },
      );
    }
  };
}

function decoderOf(channel: Channel): Decoder {
  const { messageEncoding, schema, topic } = channel;
  if (messageEncoding === 'json') return decodeJson;
  if (messageEncoding === 'protobuf' && schema.encoding === 'protobuf') return createProtobufDecoder(channel);
  const ros = rosTypeOf(channel);
  if (ros) return ros.layout === 'ros1' ? ros1Decoder(ros) : cdrDecoder(ros, topic);
  throw new InputError(
    `topic ${printable(topic)}: expected messages in cdr (ros2msg, ros2idl), ros1, protobuf or json, ` +
      `found ${describeEncoding(messageEncoding)} with a schema in ${describeEncoding(schema.encoding)}`,
  );
}

function describeEncoding(encoding: string): string {
  return encoding === '' ? 'no encoding at all' : `'${printable(encoding)}'`;
}

function decodeJson(data: Uint8Array): unknown {
  return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(data));
}

function ros1Decoder(type: RosType): Decoder {
  // Loaded when there is ROS 1 to read.
  const { MessageReader } = require('@foxglove/rosmsg-serialization') as typeof Ros1;
  const reader = new MessageReader(type.definitions);
  return (data) => reader.readMessage(data);
}

/** Encapsulations without headers between fields: CDR and CDR 2, big and little endian (DDS-XTypes 1.3, 7.6.3.1). */
const PLAIN_CDR: ReadonlySet<number> = new Set([0, 1, 6, 7]);

function cdrDecoder(type: RosType, topic: string): Decoder {
  for (const { name, definitions } of type.definitions) {
    const wide = definitions.find((field) => field.type === 'wstring' && field.isConstant !== true);
    if (wide) {
      throw new InputError(
        `topic ${printable(topic)}: field ${wide.name} of ${name ?? 'its type'} is a wstring, which has no fixed encoding`,
      );
    }
  }
  const reader = new CdrMessageReader([...type.definitions]);
  return (data) => {
    const kind = data[1] ?? 0;
    if (!PLAIN_CDR.has(kind)) throw new RangeError(`expected plain CDR, found encapsulation ${kind}`);
    const value: unknown = reader.readMessage(data);
    // arrays are views of the whole buffer: a length that is too large would reach into the next message
    if (reader.lastReadByteLength() > data.byteLength) {
      throw new RangeError(`its fields take ${reader.lastReadByteLength()} bytes`);
    }
    return value;
  };
}
