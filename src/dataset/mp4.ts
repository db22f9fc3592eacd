import { InputError } from '../errors.ts';
import { readSampleEntry, type VideoFormat } from './mp4-codec.ts';

/** Random access to bytes: `ByteSource` and stored objects fit by shape. */
export type ByteReader = {
  size(): Promise<bigint>;
  read(offset: bigint, length: bigint): Promise<Uint8Array>;
};

/** What the index of an MP4 file says about its video track. */
export type Mp4Video = VideoFormat & {
  /** Ticks per second of the track. */
  readonly timescale: number;
  /** Number of pictures. */
  readonly frames: number;
  /** Time of the first picture shown, in ticks, edit list applied. */
  readonly startTicks: number;
  /** Distance of all pictures in ticks when it is the same everywhere and shown in stored order; undefined otherwise. */
  readonly frameTicks: number | undefined;
  /** Largest distance between two keyframes in pictures; 1 when every picture is one. */
  readonly keyframeDistance: number;
  /** Pictures are shown in another order than stored (B-frames). */
  readonly reordered: boolean;
  readonly fragmented: boolean;
  /** The index lies before the data. */
  readonly faststart: boolean;
  /** Number of tracks of any kind. */
  readonly tracks: number;
};

type Box = { readonly type: string; readonly start: number; readonly end: number };

const damaged = (message: string, cause?: unknown) =>
  new InputError(`not a whole MP4 file: ${message}`, cause === undefined ? undefined : { cause });

/** Reads the index of an MP4 file over ranged reads; throws `InputError` when the file is damaged or cut. */
export async function readMp4(file: ByteReader): Promise<Mp4Video> {
  const total = Number(await file.size());
  let moov: Uint8Array | undefined;
  let moovAt = Infinity;
  let mdatAt = Infinity;
  let fragmented = false;
  const data: [number, number][] = [];
  for (let at = 0; at < total;) {
    if (total - at < 8) throw damaged(`${total - at} stray bytes at the end`);
    const head = view(await file.read(BigInt(at), BigInt(Math.min(16, total - at))));
    const type = fourcc(head, 4);
    let length = head.getUint32(0);
    if (length === 1 && head.byteLength === 16) length = Number(head.getBigUint64(8));
    if (length === 0) length = total - at;
    if (length < 8) throw damaged(`box "${type}" at byte ${at} has length ${length}`);
    if (at + length > total) {
      throw damaged(
        `box "${type}" at byte ${at} should end at byte ${at + length}, the file ends at ${total}`,
      );
    }
    if (type === 'moov') {
      moov = await file.read(BigInt(at), BigInt(length));
      moovAt = at;
    }
    if (type === 'mdat') {
      mdatAt = Math.min(mdatAt, at);
      data.push([at, at + length]);
    }
    if (type === 'moof') fragmented = true;
    at += length;
  }
  if (!moov) throw damaged('it has no "moov" box');
  try {
    return readMovie(moov, { fragmented, faststart: moovAt < mdatAt, data });
  } catch (error) {
    throw error instanceof InputError ? error : damaged('its "moov" box cannot be read', error);
  }
}

function readMovie(
  bytes: Uint8Array,
  file: { fragmented: boolean; faststart: boolean; data: readonly (readonly [number, number])[] },
): Mp4Video {
  const moov = view(bytes);
  const top = children(moov, { type: 'moov', start: 8, end: moov.byteLength });
  const tracks = top.filter((box) => box.type === 'trak');
  const video = tracks.find((track) => {
    const handler = find(moov, track, ['mdia', 'hdlr']);
    return handler !== undefined && fourcc(moov, handler.start + 8) === 'vide';
  });
  if (!video) throw damaged('it has no video track');
  const movieHeader = required(moov, { type: 'moov', start: 8, end: moov.byteLength }, ['mvhd']);
  const mediaHeader = required(moov, video, ['mdia', 'mdhd']);
  const table = required(moov, video, ['mdia', 'minf', 'stbl']);
  const timescale = moov.getUint32(mediaHeader.start + (moov.getUint8(mediaHeader.start) === 1 ? 20 : 12));
  const movieScale = moov.getUint32(movieHeader.start + (moov.getUint8(movieHeader.start) === 1 ? 20 : 12));

  const sizes = required(moov, table, ['stsz']);
  const frames = moov.getUint32(sizes.start + 8);
  const steps = runs(moov, required(moov, table, ['stts']));
  const offsets = find(moov, table, ['ctts']);
  const shifts = offsets ? runs(moov, offsets, true) : [];
  const timed = steps.reduce((sum, [count]) => sum + count, 0);
  if (timed !== frames) throw damaged(`it has ${frames} pictures and times for ${timed}`);
  checkChunks(moov, table, frames, file.data);

  const reordered = new Set(shifts.map(([, shift]) => shift)).size > 1;
  const even = new Set((frames > 1 ? steps : steps.slice(0, 1)).map(([, ticks]) => ticks)).size === 1;
  const first = reordered ? 0 : (shifts[0]?.[1] ?? 0);
  return {
    ...readSampleEntry(bytes, required(moov, table, ['stsd'])),
    timescale,
    frames,
    startTicks: first + editShift(moov, video, timescale, movieScale),
    frameTicks: even && !reordered ? steps[0]?.[1] : undefined,
    keyframeDistance: keyframeDistance(moov, find(moov, table, ['stss']), frames),
    reordered,
    fragmented:
      file.fragmented || find(moov, { type: 'moov', start: 8, end: moov.byteLength }, ['mvex']) !== undefined,
    faststart: file.faststart,
    tracks: tracks.length,
  };
}

/** Ticks by which the edit list moves the track: later by empty edits, earlier by the media time it starts at. */
function editShift(moov: DataView, track: Box, timescale: number, movieScale: number): number {
  const list = find(moov, track, ['edts', 'elst']);
  if (!list) return 0;
  const wide = moov.getUint8(list.start) === 1;
  let shift = 0;
  for (let i = 0; i < moov.getUint32(list.start + 4); i += 1) {
    const at = list.start + 8 + i * (wide ? 20 : 12);
    const duration = wide ? Number(moov.getBigUint64(at)) : moov.getUint32(at);
    const mediaTime = wide ? Number(moov.getBigInt64(at + 8)) : moov.getInt32(at + 4);
    if (mediaTime >= 0) return shift - mediaTime;
    shift += (duration * timescale) / movieScale;
  }
  return shift;
}

function keyframeDistance(moov: DataView, sync: Box | undefined, frames: number): number {
  if (!sync) return 1;
  let longest = 0;
  let before = 1;
  for (let i = 0; i < moov.getUint32(sync.start + 4); i += 1) {
    const at = moov.getUint32(sync.start + 8 + i * 4);
    longest = Math.max(longest, at - before);
    before = at;
  }
  return Math.max(longest, frames + 1 - before, 1);
}

/** Every chunk of pictures lies inside the data boxes. */
function checkChunks(
  moov: DataView,
  table: Box,
  frames: number,
  data: readonly (readonly [number, number])[],
): void {
  const sizes = required(moov, table, ['stsz']);
  const fixed = moov.getUint32(sizes.start + 4);
  const sizeOf = (frame: number) => fixed || moov.getUint32(sizes.start + 12 + frame * 4);
  const narrow = find(moov, table, ['stco']);
  const chunks = narrow ?? required(moov, table, ['co64']);
  const count = moov.getUint32(chunks.start + 4);
  const groups = required(moov, table, ['stsc']);
  let frame = 0;
  let group = 0;
  for (let chunk = 0; chunk < count; chunk += 1) {
    const nextGroup = groups.start + 8 + (group + 1) * 12;
    if (group + 1 < moov.getUint32(groups.start + 4) && moov.getUint32(nextGroup) === chunk + 1) group += 1;
    const inChunk = moov.getUint32(groups.start + 8 + group * 12 + 4);
    const at = chunks.start + 8 + chunk * (narrow ? 4 : 8);
    const start = narrow ? moov.getUint32(at) : Number(moov.getBigUint64(at));
    let end = start;
    for (let i = 0; i < inChunk && frame < frames; i += 1, frame += 1) end += sizeOf(frame);
    if (!data.some(([from, to]) => start >= from && end <= to)) {
      throw damaged(`pictures at bytes ${start} to ${end} lie outside its data`);
    }
  }
  if (frame !== frames) throw damaged(`it has ${frames} pictures and places for ${frame}`);
}

function runs(moov: DataView, box: Box, signed = false): [number, number][] {
  return Array.from({ length: moov.getUint32(box.start + 4) }, (_, i) => {
    const at = box.start + 8 + i * 8;
    return [moov.getUint32(at), signed ? moov.getInt32(at + 4) : moov.getUint32(at + 4)];
  });
}

function children(data: DataView, parent: Box): Box[] {
  const boxes: Box[] = [];
  for (let at = parent.start; at + 8 <= parent.end;) {
    const length = data.getUint32(at);
    const type = fourcc(data, at + 4);
    if (length < 8 || at + length > parent.end) throw damaged(`box "${type}" in "${parent.type}" is cut`);
    boxes.push({ type, start: at + 8, end: at + length });
    at += length;
  }
  return boxes;
}

function find(data: DataView, parent: Box, path: readonly string[]): Box | undefined {
  return path.reduce<Box | undefined>(
    (box, type) => (box ? children(data, box).find((child) => child.type === type) : undefined),
    parent,
  );
}

function required(data: DataView, parent: Box, path: readonly string[]): Box {
  const box = find(data, parent, path);
  if (!box) throw damaged(`it has no "${path.join('/')}" box`);
  return box;
}

const view = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

const fourcc = (data: DataView, at: number) =>
  String.fromCharCode(data.getUint8(at), data.getUint8(at + 1), data.getUint8(at + 2), data.getUint8(at + 3));
