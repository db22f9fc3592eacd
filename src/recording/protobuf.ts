import { createRequire } from 'node:module';
import type protobuf from 'protobufjs';
import { InputError, toError } from '../errors.ts';
import { printable } from './compression.ts';
import type { Channel, Decoder } from './types.ts';

const require = createRequire(import.meta.url);

/** The library with its extension for descriptors, loaded with the first channel that needs it: few recordings do. */
function library(): typeof protobuf {
  require('protobufjs/ext/descriptor.js');
  return require('protobufjs') as typeof protobuf;
}

/** Turns one field's value as protobufjs gives it into a plain value. */
type Plain = (value: unknown) => unknown;

/**
 * The type that a protobuf channel's descriptor set describes. Field names stay as they are in the .proto file.
 * Throws `InputError` when the descriptors are damaged or lack the type.
 */
export function protobufTypeOf(channel: Channel): protobuf.Type {
  const { name, data } = channel.schema;
  try {
    const root = library().Root.fromDescriptor(data, { keepCase: true });
    root.resolveAll();
    return root.lookupType(name);
  } catch (thrown) {
    throw new InputError(
      `topic ${printable(channel.topic)}: expected protobuf descriptors with ${printable(name)}, found ${data.byteLength} bytes that do not give it (${printable(toError(thrown).message)})`,
      { cause: thrown },
    );
  }
}

/**
 * Decodes to plain objects: bigint for 64-bit numbers, numbers for enums. Left out are absent messages and absent
 * members of a `oneof`, whose defaults nobody sent.
 */
export function createProtobufDecoder(channel: Channel): Decoder {
  const type = protobufTypeOf(channel);
  const plain = plainMessage(type, new Map());
  return (data) => plain(type.decode(data));
}

function plainMessage(type: protobuf.Type, known: Map<protobuf.Type, Plain>): Plain {
  const made = known.get(type);
  if (made) return made;
  const fields: { name: string; chosen: boolean; plain: Plain }[] = [];
  const convert: Plain = (value) => {
    const message = value as Record<string, unknown>;
    const result: Record<string, unknown> = {};
    for (const { name, chosen, plain } of fields) {
      if (chosen && !Object.hasOwn(message, name)) continue;
      const field = message[name];
      if (field !== null && field !== undefined) result[name] = plain(field);
    }
    return result;
  };
  known.set(type, convert);
  for (const field of type.fieldsArray) {
    fields.push({ name: field.name, chosen: field.partOf !== null, plain: plainField(field, known) });
  }
  return convert;
}

function plainField(field: protobuf.Field, known: Map<protobuf.Type, Plain>): Plain {
  field.resolve();
  const one = plainValue(field, known);
  if (field instanceof library().MapField) {
    const name = field.keyType.endsWith('64') ? wideKey : String;
    return (value) =>
      Object.fromEntries(Object.entries(value as object).map(([key, item]) => [name(key), one(item)]));
  }
  if (!field.repeated) return one;
  if (one === same) return same;
  return (value) => (value as unknown[]).map(one);
}

function plainValue(field: protobuf.Field, known: Map<protobuf.Type, Plain>): Plain {
  if (field.resolvedType instanceof library().Type) return plainMessage(field.resolvedType, known);
  if (field.type.endsWith('64')) return plain64;
  return same;
}

/** protobufjs names entries with 64-bit keys by the eight bytes of the key, one character each. */
function wideKey(bytes: string): string {
  return String(Buffer.from(bytes, 'latin1').readBigInt64LE());
}

function same(value: unknown): unknown {
  return value;
}

/** protobufjs gives 64-bit numbers as `Long` (two 32-bit halves), and plain numbers for defaults. */
function plain64(value: unknown): unknown {
  if (typeof value === 'number') return BigInt(value);
  const { low, high, unsigned } = value as { low: number; high: number; unsigned: boolean };
  const bits = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
  return unsigned ? bits : BigInt.asIntN(64, bits);
}
