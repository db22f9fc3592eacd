import { InputError } from '../errors.ts';
import type { AlignedFrame, Picture } from '../frame/types.ts';
import { CodedOrder } from './coded-order.ts';
import { CodedStream } from './coded-stream.ts';

/**
 * The coded cameras (H.264, H.265) of a recording: their pictures are decoded in the order of the recording, whether a
 * row uses them or not, and rows wait here until the pixels of all their pictures are there.
 */
export class CodedRows {
  private readonly signal: AbortSignal;
  private readonly streams = new Map<string, CodedStream>();
  private readonly orders = new Map<string, CodedOrder>();
  private readonly copied: ReadonlySet<string>;
  private rows: AlignedFrame[] = [];

  /** `copied`: topics whose coded pictures are not decoded. */
  constructor(signal: AbortSignal, copied: ReadonlySet<string> = new Set()) {
    this.signal = signal;
    this.copied = copied;
  }

  /**
   * A picture as a row can hold it, and its memory: a copy, or for a coded one the decoded picture, whose pixels come
   * later. Undefined for what comes before the first key frame of a stream; throws as
   * `CodedOrder` does.
   */
  async take(topic: string, picture: Picture): Promise<{ value: Picture; bytes: number } | undefined> {
    const copy = () => ({
      value: { ...picture, data: picture.data.slice() },
      bytes: picture.data.byteLength,
    });
    if (picture.format !== 'h264' && picture.format !== 'h265') return copy();
    const order = this.orders.get(topic) ?? new CodedOrder();
    this.orders.set(topic, order);
    if (!order.admits(picture, `topic ${topic}`)) return undefined;
    if (this.copied.has(topic)) return copy();
    const stream = this.streams.get(topic) ?? new CodedStream(`topic ${topic}`, this.signal);
    this.streams.set(topic, stream);
    const value = await stream.decode(picture);
    return { value, bytes: stream.pictureBytes };
  }

  /** A message of the topic gave no picture. */
  lose(topic: string): void {
    this.orders.get(topic)?.lose();
  }

  /** Takes rows in order; gives those whose pictures are all there, in order. */
  *pass(rows: Iterable<AlignedFrame>): Generator<AlignedFrame> {
    if (this.streams.size === 0) {
      yield* rows;
      return;
    }
    this.rows.push(...rows);
    const waiting = this.rows.findIndex((row) => !this.isReady(row));
    yield* this.rows.splice(0, waiting < 0 ? this.rows.length : waiting);
  }

  /** Memory of the pictures of rows that wait. */
  get bytes(): number {
    return this.rows.reduce((sum, row) => sum + pixelBytes(row), 0);
  }

  /**
   * Waits for all pictures; the rows that are left are given by `pass`. Throws `InputError` when more than the
   * tolerated share of a stream's pictures do not decode.
   */
  async finish(tolerated: number): Promise<void> {
    for (const [topic, stream] of this.streams) {
      await stream.finish();
      if (stream.failed > tolerated * stream.count) {
        throw new InputError(
          `topic ${topic}: ${stream.failed} of ${stream.count} coded pictures do not decode, more than tolerate.undecodable (${tolerated})`,
        );
      }
    }
  }

  /** Ends all decoders as they are. */
  abort(): void {
    for (const stream of this.streams.values()) stream.abort();
  }

  private isReady(row: AlignedFrame): boolean {
    for (const value of row.values.values()) {
      if (typeof value !== 'object' || value instanceof Float64Array) continue;
      for (const stream of this.streams.values()) if (!stream.isReady(value)) return false;
    }
    return true;
  }
}

function pixelBytes(row: AlignedFrame): number {
  let bytes = 0;
  for (const value of row.values.values()) {
    if (typeof value === 'object' && !(value instanceof Float64Array)) bytes += value.data.byteLength;
  }
  return bytes;
}
