/** What a converter has to know of H.265 (ITU-T H.265): key frames, size, B slices, numbers. */
import { InputError } from '../errors.ts';
import { BitReader } from './annex-b.ts';
import type { CodedPicture, SequenceParameters, StreamState } from './coded-video.ts';
import { sized } from './h264.ts';
import type { PictureOrder } from './types.ts';

const NAL = { lastSlice: 31, firstKey: 16, lastKey: 23, idr: 19, lastIdr: 20, sps: 33, pps: 34 } as const;

/** Reads one coded picture; remembers its parameter sets in `state`. */
export function inspect(units: readonly Uint8Array[], state: StreamState): CodedPicture {
  let keyframe = false;
  let bSlices = false;
  let slices = 0;
  let pictures = 0;
  let order: PictureOrder | undefined;
  for (const unit of units) {
    const type = ((unit[0] ?? 0) >> 1) & 0x3f;
    if (type === NAL.sps) state.sequence = parseSequence(unit);
    if (type === NAL.pps) rememberPicture(unit, state);
    if (type > NAL.lastSlice) continue;
    slices++;
    const isKey = type >= NAL.firstKey && type <= NAL.lastKey;
    keyframe ||= isKey;
    const first = firstSegment(unit, type, isKey, state);
    if (!first) continue;
    pictures++;
    bSlices ||= first.bSlice;
    order ??= first.order;
  }
  if (slices === 0) throw new InputError('expected a coded H.265 picture, found none in the message');
  return { keyframe, bSlices, pictures, order };
}

/** What the first segment of a picture says; undefined for later ones, which need more state to read. */
function firstSegment(
  unit: Uint8Array,
  type: number,
  isKey: boolean,
  { sequence, sliceBits }: StreamState,
): { bSlice: boolean; order: PictureOrder | undefined } | undefined {
  const reader = new BitReader(unit, 2, 32);
  if (reader.bit() === 0) return undefined;
  if (isKey) reader.skip(1);
  const { extra = 0, output = false } = sliceBits.get(reader.ue()) ?? {};
  reader.skip(extra);
  const bSlice = reader.ue() === 0;
  if (!sequence || sequence.numberBits === 0) return { bSlice, order: undefined };
  if (output) reader.skip(1);
  if (sequence.planes) reader.skip(2);
  const modulus = 2 ** sequence.numberBits;
  // Even types below the reserved ones are used by no other picture of their layer (7.4.2.2).
  const reference = type > 14 || type % 2 === 1;
  const number = type === NAL.idr || type === NAL.lastIdr ? 0 : reader.bits(sequence.numberBits);
  return { bSlice, order: { number, modulus, reference } };
}

/** What slice headers hold that refer to a picture parameter set (7.3.2.3.1). */
function rememberPicture(unit: Uint8Array, state: StreamState): void {
  const reader = new BitReader(unit, 2, 64);
  const id = reader.ue();
  reader.ue();
  reader.skip(1);
  const output = reader.bit() === 1;
  state.sliceBits.set(id, { output, extra: reader.bits(3) });
}

/** Width and height after the conformance window, and whether pictures are reordered (7.3.2.2.1). */
function parseSequence(unit: Uint8Array): SequenceParameters {
  const reader = new BitReader(unit, 2);
  reader.skip(4);
  const subLayers = reader.bits(3);
  reader.skip(1);
  skipProfile(reader, subLayers);
  reader.ue();
  const chroma = reader.ue();
  const separate = chroma === 3 ? reader.bit() : 0;
  const width = reader.ue();
  const height = reader.ue();
  const window = reader.bit() === 1 ? [reader.ue(), reader.ue(), reader.ue(), reader.ue()] : [];
  const [left = 0, right = 0, top = 0, bottom = 0] = window;
  const planar = separate === 1 || chroma === 0;
  const unitX = planar || chroma === 3 ? 1 : 2;
  const unitY = planar || chroma !== 1 ? 1 : 2;
  reader.ue(); // bit depths
  reader.ue();
  const numberBits = reader.ue() + 4;
  if (numberBits > 16) throw new InputError('an H.265 parameter set is damaged');
  let reorders = false;
  for (let layer = reader.bit() === 1 ? 0 : subLayers; layer <= subLayers; layer++) {
    reader.ue();
    reorders = reader.ue() > 0;
    reader.ue();
  }
  return sized(width - (left + right) * unitX, height - (top + bottom) * unitY, {
    reorders,
    fields: false,
    numberBits,
    planes: separate === 1,
  });
}

/** profile_tier_level (7.3.3): 88 bits and a level, then flags and the same again for sub-layers. */
function skipProfile(reader: BitReader, subLayers: number): void {
  reader.skip(88 + 8);
  const present: [number, number][] = [];
  for (let layer = 0; layer < subLayers; layer++) present.push([reader.bit(), reader.bit()]);
  if (subLayers > 0) reader.skip(2 * (8 - subLayers));
  for (const [profile, level] of present) reader.skip(profile * 88 + level * 8);
}
