import type { GridClock } from './row-clock.ts';
import { never } from './sample-queue.ts';
import type { EpisodeSpan } from './types.ts';

/** The row that is next: its place on the timeline and the span it belongs to. */
export type Row = { readonly time: bigint; readonly episode: number };

/** Where the row times come from. */
export interface RowSource {
  /** The next row, or undefined while it is not known (or when there is none, see `bound`). */
  next(): Row | undefined;
  /** Goes past the row that `next` gave. */
  pass(): void;
  /** No row to come has a time below this; `never` when there are no more rows. */
  bound(): bigint;
  /** Whether a row can have its time in [from, to), among those to come. */
  rowIn(from: bigint, to: bigint): boolean;
  /** Rows so far that lie outside the episodes. */
  readonly outside: number;
}

/** The rows of the grid within the spans, in order. */
export class GridRows implements RowSource {
  outside = 0;
  private readonly clock: GridClock;
  private readonly spans: readonly EpisodeSpan[];
  private k = 0;
  private span = 0;
  private row: Row | undefined;

  constructor(clock: GridClock, spans: readonly EpisodeSpan[]) {
    this.clock = clock;
    this.spans = spans;
    this.settle();
  }

  next(): Row | undefined {
    return this.span < this.spans.length
      ? { time: this.clock.timeOf(this.k), episode: this.span }
      : undefined;
  }

  pass(): void {
    this.k += 1;
    this.settle();
  }

  bound(): bigint {
    return this.row?.time ?? never;
  }

  rowIn(from: bigint, to: bigint): boolean {
    if (this.row === undefined) return false;
    const k = Math.max(this.k, this.clock.firstAt(from));
    return k < this.clock.rows && this.clock.timeOf(k) < to;
  }

  /** Moves to the next row that lies in a span. */
  private settle(): void {
    const { clock, spans } = this;
    for (; this.span < spans.length; this.span++) {
      const { start, end } = spans[this.span] as EpisodeSpan;
      const k = Math.min(Math.max(this.k, clock.firstAt(start)), clock.rows);
      this.outside += k - this.k;
      this.k = k;
      if (k === clock.rows) continue;
      const time = clock.timeOf(k);
      if (time > end) continue;
      this.row = { time, episode: this.span };
      return;
    }
    this.row = undefined;
    this.outside += clock.rows - this.k;
    this.k = clock.rows;
  }
}

/** The sample times of a reference source within [t0, tEnd] and the spans; equal times make one row. */
export class ReferenceRows implements RowSource {
  outside = 0;
  private readonly t0: bigint;
  private readonly tEnd: bigint;
  private readonly spans: readonly EpisodeSpan[];
  /** No time below this can still be added. */
  private readonly watermark: () => bigint;
  private times: bigint[] = [];
  private span = 0;

  constructor(t0: bigint, tEnd: bigint, spans: readonly EpisodeSpan[], watermark: () => bigint) {
    this.t0 = t0;
    this.tEnd = tEnd;
    this.spans = spans;
    this.watermark = watermark;
  }

  /** One sample time of the reference, at or above the watermark. */
  add(time: bigint): void {
    if (time < this.t0 || time > this.tEnd) return;
    const { times } = this;
    let at = times.length;
    while (at > 0 && (times[at - 1] as bigint) > time) at -= 1;
    if (at === 0 || times[at - 1] !== time) times.splice(at, 0, time);
  }

  next(): Row | undefined {
    for (;;) {
      const [time] = this.times;
      if (time === undefined || this.watermark() <= time) return undefined;
      while (this.span < this.spans.length && (this.spans[this.span] as EpisodeSpan).end < time)
        this.span += 1;
      const span = this.spans[this.span];
      if (span && span.start <= time) return { time, episode: this.span };
      this.outside += 1;
      this.times.shift();
    }
  }

  pass(): void {
    this.times.shift();
  }

  bound(): bigint {
    const mark = this.watermark();
    const [first] = this.times;
    const bound = first !== undefined && first < mark ? first : mark;
    if (bound > this.tEnd) return never;
    return bound > this.t0 ? bound : this.t0;
  }

  rowIn(): boolean {
    return true;
  }
}
