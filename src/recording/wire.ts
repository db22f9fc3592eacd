import { InputError } from '../errors.ts';

/** One field of a protobuf message: `value` for varints, `bytes` for fields with a length; others are skipped. */
export type WireField = { readonly number: number; readonly value?: bigint; readonly bytes?: Uint8Array };

/** The top-level fields of an encoded protobuf message (protobuf.dev/programming-guides/encoding), nothing decoded. */
export function* wireFields(data: Uint8Array): Generator<WireField, void, void> {
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = data[at++];
      if (byte === undefined) throw new InputError('a protobuf message is cut off inside a number');
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    throw new InputError('a protobuf message holds a number of more than 64 bits');
  };
  while (at < data.byteLength) {
    const tag = Number(varint());
    const number = tag >>> 3;
    const kind = tag & 7;
    if (kind === 0) {
      yield { number, value: varint() };
    } else if (kind === 2) {
      const length = Number(varint());
      if (length > data.byteLength - at) throw new InputError('a protobuf message is cut off inside a field');
      yield { number, bytes: data.subarray(at, at + length) };
      at += length;
    } else if (kind === 1 || kind === 5) {
      at += kind === 1 ? 8 : 4;
    } else {
      throw new InputError(`a protobuf message holds a field of kind ${kind}, which is not in use`);
    }
  }
}
