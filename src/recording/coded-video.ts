import { InputError } from '../errors.ts';
import { nalUnits } from './annex-b.ts';
import * as h264 from './h264.ts';
import * as h265 from './h265.ts';
import type { Channel, Picture, PictureOrder } from './types.ts';

/** What a stream's last sequence parameter set says. */
export type SequenceParameters = {
  readonly width: number;
  readonly height: number;
  /** Pictures may be shown in another order than they are sent in. */
  readonly reorders: boolean;
  /** A picture may come in two fields. */
  readonly fields: boolean;
  /** Bits of the number that counts pictures in slice headers; 0 when it tells nothing about missing ones. */
  readonly numberBits: number;
  /** Slice headers name one of three colour planes. */
  readonly planes: boolean;
};

/** What is remembered of a stream between its pictures. */
export type StreamState = {
  sequence?: SequenceParameters;
  /** What picture parameter sets say about slice headers, by number (H.265). */
  readonly sliceBits: Map<number, { readonly extra: number; readonly output: boolean }>;
};

/** What one coded picture is. `pictures`: how many of them begin in the message. */
export type CodedPicture = {
  readonly keyframe: boolean;
  readonly bSlices: boolean;
  readonly pictures: number;
  readonly order: PictureOrder | undefined;
};

/**
 * Parameter sets come with key frames only: what each channel's last ones said serves the pictures after them. A
 * channel's pictures are read in the order in which they were sent.
 */
const states = new WeakMap<Channel, StreamState>();

/**
 * A coded picture of an H.264 or H.265 stream. Width and height are 0 for pictures before the first key frame, which
 * nothing can decode. Throws `InputError` when the data is not in Annex B form or its headers are damaged.
 */
export function videoPicture(format: 'h264' | 'h265', data: Uint8Array, channel: Channel): Picture {
  const state: StreamState = states.get(channel) ?? { sliceBits: new Map() };
  states.set(channel, state);
  const codec = format === 'h264' ? h264 : h265;
  const { keyframe, bSlices, pictures, order } = codec.inspect(nalUnits(data), state);
  const { width = 0, height = 0, reorders = false, fields = false } = state.sequence ?? {};
  if (pictures !== 1 && !(fields && pictures === 2)) {
    const found = pictures === 0 ? 'the rest of one' : `${pictures} of them`;
    throw new InputError(`expected one whole ${format} picture in a message, found ${found}`);
  }
  if (keyframe && width === 0) {
    throw new InputError(`expected parameter sets with the key frame of an ${format} stream, found none`);
  }
  const marks = { ...(bSlices && reorders && { bFrame: true as const }), ...(order && { order }) };
  return { format, width, height, data, keyframe, ...marks };
}
