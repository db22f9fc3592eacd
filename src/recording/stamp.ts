import type { MessageDefinition, MessageDefinitionField } from '@foxglove/message-definition';
import type protobuf from 'protobufjs';
import { InputError } from '../errors.ts';
import { createDecoder } from './decode.ts';
import { findDefinition, plainTypeName, rosTypeOf } from './definitions.ts';
import type { RosLayout, RosType } from './definitions.ts';
import { protobufTypeOf } from './protobuf.ts';
import type { Channel } from './types.ts';
import { wireFields } from './wire.ts';

/** Reads the acquisition stamp of a payload in ns since 1970; undefined when it is zero or not there. */
export type StampReader = (data: Uint8Array) => bigint | undefined;

/** Where a stamp may stand, in order of preference. */
const STAMP_PATHS: readonly (readonly [string, ...string[]])[] = [
  ['header', 'stamp'],
  ['header', 'timestamp'],
  ['timestamp'],
  ['stamp'],
];

const NS = 1_000_000_000n;

/**
 * The stamp reader of a channel, or undefined when its type carries no stamp. ROS payloads are read at the stamp's
 * fixed place, protobuf ones by skipping to its field; only JSON, and ROS types whose stamp follows fields of
 * varying size, are decoded whole. Throws `InputError` as `createDecoder` does.
 */
export function createStampReader(channel: Channel): StampReader | undefined {
  if (channel.messageEncoding === 'json') return jsonReader(channel);
  if (channel.messageEncoding === 'protobuf') return protobufReader(protobufTypeOf(channel));
  const ros = rosTypeOf(channel);
  if (!ros) return undefined;
  for (const path of STAMP_PATHS) {
    const place = placeOf(ros, ros.root, path, 0);
    if (place === undefined) continue;
    const whole = decodingReader(channel, path);
    if (place === 'varies') return whole;
    return ros.layout === 'ros1' ? ros1Reader(place) : cdrReader(place + 4, whole);
  }
  return undefined;
}

/** Size of primitive types in both layouts. */
const PRIMITIVE_SIZE: Readonly<Record<string, number>> = {
  bool: 1,
  int8: 1,
  uint8: 1,
  int16: 2,
  uint16: 2,
  int32: 4,
  uint32: 4,
  float32: 4,
  int64: 8,
  uint64: 8,
  float64: 8,
};

/**
 * Offset of the time at `path` in the payload of a ROS type, counted from the first field; 'varies' when fields of
 * varying size precede it; undefined when there is no such field.
 */
function placeOf(
  type: RosType,
  definition: MessageDefinition,
  path: readonly string[],
  from: number,
): number | 'varies' | undefined {
  const [name, ...rest] = path;
  let offset: number | 'varies' = from;
  for (const field of definition.definitions) {
    if (field.isConstant === true) continue;
    const wanted = field.name === name && field.isArray !== true;
    if (wanted && rest.length === 0 && isTime(field)) {
      return offset === 'varies' ? offset : align(offset, 4, type.layout);
    }
    const nested = field.isComplex === true ? findDefinition(type, field.type) : undefined;
    if (
      wanted &&
      nested &&
      rest.length === 0 &&
      plainTypeName(nested.name ?? '') === 'builtin_interfaces/Time'
    ) {
      return offset === 'varies' ? offset : align(offset, 4, type.layout);
    }
    if (wanted && nested && rest.length > 0) {
      const inner = placeOf(type, nested, rest, offset === 'varies' ? 0 : offset);
      return inner === undefined ? undefined : offset === 'varies' ? 'varies' : inner;
    }
    const size = field.isArray === true ? undefined : isTime(field) ? 4 : PRIMITIVE_SIZE[field.type];
    if (offset === 'varies' || size === undefined) offset = 'varies';
    else offset = align(offset, size, type.layout) + (isTime(field) ? 8 : size);
  }
  return undefined;
}

function isTime(field: MessageDefinitionField): boolean {
  return field.type === 'time' || plainTypeName(field.type) === 'builtin_interfaces/Time';
}

function align(offset: number, size: number, layout: RosLayout): number {
  return layout === 'cdr' ? Math.ceil(offset / size) * size : offset;
}

function ros1Reader(at: number): StampReader {
  return (data) => {
    const view = stampView(data, at);
    return stampOf(view.getUint32(0, true), view.getUint32(4, true));
  };
}

function stampView(data: Uint8Array, at: number): DataView {
  if (data.byteLength < at + 8) {
    throw new InputError(`expected a stamp at byte ${at}, found a message of ${data.byteLength} bytes`);
  }
  return new DataView(data.buffer, data.byteOffset + at, 8);
}

/** Plain CDR (kinds 0 and 1: big and little endian) has fixed places; the other kinds are decoded. */
function cdrReader(at: number, whole: StampReader): StampReader {
  return (data) => {
    const kind = data[1];
    if (kind !== 0 && kind !== 1) return whole(data);
    const view = stampView(data, at);
    return stampOf(view.getInt32(0, kind === 1), view.getUint32(4, kind === 1));
  };
}

function decodingReader(channel: Channel, path: readonly string[]): StampReader {
  const decode = createDecoder(channel);
  return (data) => timeOf(path.reduce(member, decode(data)));
}

function jsonReader(channel: Channel): StampReader | undefined {
  const properties = jsonProperties(channel);
  if (properties && !STAMP_PATHS.some(([first]) => properties.has(first))) return undefined;
  const decode = createDecoder(channel);
  return (data) => {
    const message = decode(data);
    for (const path of STAMP_PATHS) {
      const time = timeOf(path.reduce(member, message));
      if (time !== undefined) return time;
    }
    return undefined;
  };
}

/** Names of a JSON schema's properties; undefined when there is no schema to tell. */
function jsonProperties(channel: Channel): ReadonlySet<string> | undefined {
  if (channel.schema.data.byteLength === 0) return undefined;
  try {
    const schema: unknown = JSON.parse(new TextDecoder().decode(channel.schema.data));
    const properties = member(schema, 'properties');
    return typeof properties === 'object' && properties ? new Set(Object.keys(properties)) : undefined;
  } catch (thrown) {
    throw new InputError(`topic ${channel.topic}: its JSON schema does not parse`, { cause: thrown });
  }
}

function protobufReader(type: protobuf.Type): StampReader | undefined {
  for (const path of STAMP_PATHS) {
    const numbers: number[] = [];
    let at: protobuf.Type | undefined = type;
    for (const name of path) {
      const field: protobuf.Field | undefined = at?.fields[name]?.resolve();
      if (!field || field.repeated) break;
      numbers.push(field.id);
      at = field.resolvedType && 'fields' in field.resolvedType ? field.resolvedType : undefined;
    }
    if (numbers.length !== path.length || at?.fullName !== '.google.protobuf.Timestamp') continue;
    return (data) => {
      let bytes: Uint8Array | undefined = data;
      for (const number of numbers) {
        let inner: Uint8Array | undefined;
        for (const field of wireFields(bytes)) if (field.number === number) inner = field.bytes ?? inner;
        if (!inner) return undefined;
        bytes = inner;
      }
      let seconds = 0n;
      let nanos = 0n;
      for (const field of wireFields(bytes)) {
        if (field.number === 1) seconds = BigInt.asIntN(64, field.value ?? 0n);
        else if (field.number === 2) nanos = BigInt.asIntN(32, field.value ?? 0n);
      }
      return nonZero(seconds * NS + nanos);
    };
  }
  return undefined;
}

function member(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined;
}

/** A time as messages spell it: `sec` or `seconds` with `nanosec`, `nsec`, `nanos` or `nanoseconds`. */
function timeOf(value: unknown): bigint | undefined {
  const seconds = member(value, 'sec') ?? member(value, 'secs') ?? member(value, 'seconds');
  const nanos =
    member(value, 'nanosec') ??
    member(value, 'nsec') ??
    member(value, 'nsecs') ??
    member(value, 'nanos') ??
    member(value, 'nanoseconds') ??
    0;
  const whole = integer(seconds);
  const part = integer(nanos);
  return whole === undefined || part === undefined ? undefined : nonZero(whole * NS + part);
}

function integer(value: unknown): bigint | undefined {
  if (typeof value === 'bigint') return value;
  return typeof value === 'number' && Number.isSafeInteger(value) ? BigInt(value) : undefined;
}

function stampOf(seconds: number, nanos: number): bigint | undefined {
  return seconds === 0 && nanos === 0 ? undefined : BigInt(seconds) * NS + BigInt(nanos);
}

function nonZero(time: bigint): bigint | undefined {
  return time === 0n ? undefined : time;
}
