/** What a converter has to know of H.264 (ITU-T H.264): key frames, size, B slices, numbers. */
import { InputError } from '../errors.ts';
import { BitReader } from './annex-b.ts';
import type { CodedPicture, SequenceParameters, StreamState } from './coded-video.ts';
import type { PictureOrder } from './types.ts';

const NAL = { slice: 1, idr: 5, sps: 7 } as const;

/** Profiles whose parameter sets carry chroma and scaling information (7.3.2.1.1). */
const HIGH_PROFILES: ReadonlySet<number> = new Set([
  100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135,
]);

/** Reads one coded picture; remembers its parameter sets in `state`. */
export function inspect(units: readonly Uint8Array[], state: StreamState): CodedPicture {
  let keyframe = false;
  let bSlices = false;
  let slices = 0;
  let pictures = 0;
  let order: PictureOrder | undefined;
  for (const unit of units) {
    const type = (unit[0] ?? 0) & 0x1f;
    if (type === NAL.sps) state.sequence = parseSequence(unit);
    if (type !== NAL.slice && type !== NAL.idr) continue;
    slices++;
    keyframe ||= type === NAL.idr;
    const header = new BitReader(unit, 1, 32);
    if (header.ue() === 0) pictures++; // first_mb_in_slice
    bSlices ||= header.ue() % 5 === 1;
    order ??= orderOf(header, ((unit[0] ?? 0) & 0x60) !== 0, state.sequence);
  }
  if (slices === 0) throw new InputError('expected a coded H.264 picture, found none in the message');
  return { keyframe, bSlices, pictures, order };
}

/** The picture's frame_num (7.4.3); the header stands behind the slice type. */
function orderOf(
  header: BitReader,
  reference: boolean,
  sequence: SequenceParameters | undefined,
): PictureOrder | undefined {
  if (!sequence || sequence.numberBits === 0) return undefined;
  header.ue(); // pic_parameter_set_id
  if (sequence.planes) header.skip(2);
  return { number: header.bits(sequence.numberBits), modulus: 2 ** sequence.numberBits, reference };
}

/** Width and height after cropping (7.4.2.1.1); whether the order of pictures may differ from that of coding. */
function parseSequence(unit: Uint8Array): SequenceParameters {
  const reader = new BitReader(unit, 1);
  const profile = reader.bits(8);
  reader.skip(16); // constraint flags, level
  reader.ue();
  let chroma = 1;
  let separate = 0;
  if (HIGH_PROFILES.has(profile)) {
    chroma = reader.ue();
    if (chroma === 3) separate = reader.bit();
    reader.ue();
    reader.ue();
    reader.skip(1);
    if (reader.bit() === 1) {
      for (let list = 0; list < (chroma === 3 ? 12 : 8); list++) {
        if (reader.bit() === 1) skipScalingList(reader, list < 6 ? 16 : 64);
      }
    }
  }
  const numberBits = reader.ue() + 4;
  if (numberBits > 16) throw new InputError('an H.264 parameter set is damaged');
  const orderType = reader.ue();
  if (orderType === 0) {
    reader.ue();
  } else if (orderType === 1) {
    reader.skip(1);
    reader.se();
    reader.se();
    const cycle = reader.ue();
    if (cycle > 255) throw new InputError('an H.264 parameter set is damaged');
    for (let index = 0; index < cycle; index++) reader.se();
  }
  reader.ue(); // max_num_ref_frames
  const gapsAllowed = reader.bit() === 1;
  const widthInBlocks = reader.ue() + 1;
  const heightInUnits = reader.ue() + 1;
  const framesOnly = reader.bit();
  if (framesOnly === 0) reader.skip(1);
  reader.skip(1); // direct_8x8_inference_flag
  const crop = reader.bit() === 1 ? [reader.ue(), reader.ue(), reader.ue(), reader.ue()] : [];
  const [left = 0, right = 0, top = 0, bottom = 0] = crop;
  const planar = separate === 1 || chroma === 0;
  const cropX = planar || chroma === 3 ? 1 : 2;
  const cropY = (planar || chroma !== 1 ? 1 : 2) * (2 - framesOnly);
  return sized(
    widthInBlocks * 16 - (left + right) * cropX,
    heightInUnits * 16 * (2 - framesOnly) - (top + bottom) * cropY,
    {
      reorders: orderType !== 2,
      fields: framesOnly === 0,
      numberBits: gapsAllowed || framesOnly === 0 ? 0 : numberBits,
      planes: separate === 1,
    },
  );
}

function skipScalingList(reader: BitReader, size: number): void {
  let last = 8;
  let next = 8;
  for (let index = 0; index < size; index++) {
    if (next !== 0) next = (last + reader.se() + 256) % 256;
    last = next === 0 ? last : next;
  }
}

/** The largest level of both codecs ends at 16,888 pixels a side. */
const MAX_SIDE = 16_888;

/** Parameters with a size that can be; anything else is damage. */
export function sized(
  width: number,
  height: number,
  rest: Omit<SequenceParameters, 'width' | 'height'>,
): SequenceParameters {
  if (width > 0 && height > 0 && width <= MAX_SIDE && height <= MAX_SIDE) return { width, height, ...rest };
  throw new InputError(`a parameter set of the video gives a size of ${width}×${height} pixels`);
}
