import type { Row } from './row-source.ts';
import type { BufferLedger, Decision, HeldSample } from './sample-queue.ts';
import type { AlignedFrame, Column, EpisodeSpan, FeatureValue, Mapping } from './types.ts';

type Pending = {
  readonly row: Row;
  readonly values: Map<string, FeatureValue>;
  readonly kept: readonly HeldSample[];
};

type Derived = Exclude<Column, { sources: readonly number[] }>;

/**
 * Puts the values of the sources together into frames. A frame with a value from the next row waits for it, and the
 * last row of an episode, which has none, is left out. A frame that says whether it is the last one waits until that is
 * known: for the next row, or with values from the next row too, for the one after it.
 */
export class RowAssembly {
  rows = 0;
  derivedRows = 0;
  private readonly columns: readonly Column[];
  private readonly derived: readonly Derived[];
  /** Whether columns take values from the next row. */
  private readonly takesNext: boolean;
  /** Rows that have to be known after one before it can be given out. */
  private readonly ahead: number;
  private readonly sizes: readonly number[];
  private readonly ledger: BufferLedger;
  private readonly spans: readonly EpisodeSpan[];
  private pending: Pending[] = [];
  private episode = -1;
  private index = 0;

  constructor(mapping: Mapping, ledger: BufferLedger, spans: readonly EpisodeSpan[]) {
    this.columns = mapping.columns;
    this.derived = mapping.columns.filter((column): column is Derived => 'derive' in column);
    this.takesNext = this.derived.some((column) => 'from' in column);
    this.ahead = (this.takesNext ? 1 : 0) + (this.derived.some((column) => !('from' in column)) ? 1 : 0);
    this.sizes = mapping.sources.map((source) => (source.kind === 'vector' ? source.size : 0));
    this.ledger = ledger;
    this.spans = spans;
  }

  /** Takes one row, values by source; gives the frames that are complete now. */
  *add(
    row: Row,
    values: readonly (FeatureValue | undefined)[],
    decisions: readonly Decision[],
  ): Generator<AlignedFrame> {
    const assembled = new Map<string, FeatureValue>();
    for (const column of this.columns) {
      if ('sources' in column) assembled.set(column.feature, this.join(column.sources, values));
    }
    if (this.ahead === 0) {
      yield this.emit(row, assembled);
      return;
    }
    if (this.pending[0] && this.pending[0].row.episode !== row.episode) yield* this.end();
    this.pending.push({ row, values: assembled, kept: this.keep(decisions) });
    if (this.pending.length > this.ahead) yield this.complete(false);
  }

  /** No row of the current episode is to come; gives the frames that were waiting. */
  *end(): Generator<AlignedFrame> {
    const { takesNext } = this;
    const last = takesNext ? 2 : 1;
    while (this.pending.length >= last) yield this.complete(this.pending.length === last);
    const left = this.pending.shift();
    if (!left) return;
    this.derivedRows += 1;
    this.drop(left);
  }

  /** Gives out the first pending row; `done`: it is the last one of its episode. */
  private complete(done: boolean): AlignedFrame {
    const [first, next] = this.pending as [Pending, Pending | undefined];
    this.pending.shift();
    for (const column of this.derived) {
      if (!('from' in column)) {
        const success = column.derive === 'done' || this.spans[first.row.episode]?.success === true;
        first.values.set(column.feature, Float64Array.of(done && success ? 1 : 0));
        continue;
      }
      const now = vectorOf(first.values, column.from);
      const then = vectorOf(next?.values, column.from);
      const value = column.derive === 'next' ? then : then.map((part, i) => part - (now[i] ?? 0));
      first.values.set(column.feature, value);
    }
    this.drop(first);
    return this.emit(first.row, first.values);
  }

  private keep(decisions: readonly Decision[]): HeldSample[] {
    const kept = decisions.flatMap((decision) => (decision.kind === 'one' ? [decision.sample] : []));
    for (const sample of kept) this.ledger.keep(sample);
    return kept;
  }

  private drop({ kept }: Pending): void {
    for (const sample of kept) this.ledger.drop(sample);
  }

  private emit({ time, episode }: Row, values: ReadonlyMap<string, FeatureValue>): AlignedFrame {
    if (episode !== this.episode) {
      this.episode = episode;
      this.index = 0;
    }
    this.rows += 1;
    return { episode, index: this.index++, time, values };
  }

  private join(sources: readonly number[], values: readonly (FeatureValue | undefined)[]): FeatureValue {
    const [only] = sources;
    if (sources.length === 1 && only !== undefined) return valueOf(values[only]);
    const out = new Float64Array(sources.reduce((sum, source) => sum + (this.sizes[source] ?? 0), 0));
    let at = 0;
    for (const source of sources) {
      const value = valueOf(values[source]);
      if (!(value instanceof Float64Array)) throw new TypeError('only vectors are concatenated');
      out.set(value, at);
      at += value.length;
    }
    return out;
  }
}

function valueOf(value: FeatureValue | undefined): FeatureValue {
  if (value === undefined) throw new TypeError('a sample of a feature has no value');
  return value;
}

function vectorOf(values: ReadonlyMap<string, FeatureValue> | undefined, key: string): Float64Array {
  const value = values?.get(key);
  if (value instanceof Float64Array) return value;
  throw new TypeError(`${key} is no vector`);
}
