import type { Row } from './row-source.ts';
import type { BufferLedger, Decision, HeldSample } from './sample-queue.ts';
import type { AlignedFrame, Column, FeatureValue, Mapping } from './types.ts';

type Pending = {
  readonly row: Row;
  readonly values: Map<string, FeatureValue>;
  readonly kept: readonly HeldSample[];
};

/**
 * Puts the values of the sources together into frames. With features derived from the next row, a frame waits for its
 * successor, and the last one of an episode is left out.
 */
export class RowAssembly {
  rows = 0;
  derivedRows = 0;
  private readonly columns: readonly Column[];
  private readonly derived: readonly Extract<Column, { derive: string }>[];
  private readonly sizes: readonly number[];
  private readonly ledger: BufferLedger;
  private pending: Pending | undefined;
  private episode = -1;
  private index = 0;

  constructor(mapping: Mapping, ledger: BufferLedger) {
    this.columns = mapping.columns;
    this.derived = mapping.columns.filter((column) => 'derive' in column);
    this.sizes = mapping.sources.map((source) => (source.kind === 'vector' ? source.size : 0));
    this.ledger = ledger;
  }

  /** Takes one row, values by source; gives the frame that is complete now, if any. */
  add(
    row: Row,
    values: readonly (FeatureValue | undefined)[],
    decisions: readonly Decision[],
  ): AlignedFrame | undefined {
    const assembled = new Map<string, FeatureValue>();
    for (const column of this.columns) {
      if ('sources' in column) assembled.set(column.feature, this.join(column.sources, values));
    }
    if (this.derived.length === 0) return this.emit(row, assembled);
    const next: Pending = { row, values: assembled, kept: this.keep(decisions) };
    const frame = this.complete(next);
    this.pending = next;
    return frame;
  }

  /** There is no row after the last one that was added. */
  end(): void {
    this.complete(undefined);
    this.pending = undefined;
  }

  /** The pending frame with the values of its successor; left out when the successor is of another episode. */
  private complete(next: Pending | undefined): AlignedFrame | undefined {
    const { pending } = this;
    if (!pending) return undefined;
    for (const sample of pending.kept) this.ledger.drop(sample);
    if (next?.row.episode !== pending.row.episode) {
      this.derivedRows += 1;
      return undefined;
    }
    for (const { feature, derive, from } of this.derived) {
      const now = vectorOf(pending.values, from);
      const then = vectorOf(next.values, from);
      pending.values.set(feature, derive === 'next' ? then : then.map((value, i) => value - (now[i] ?? 0)));
    }
    return this.emit(pending.row, pending.values);
  }

  private keep(decisions: readonly Decision[]): HeldSample[] {
    const kept = decisions.flatMap((decision) => (decision.kind === 'one' ? [decision.sample] : []));
    for (const sample of kept) this.ledger.keep(sample);
    return kept;
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

function vectorOf(values: ReadonlyMap<string, FeatureValue>, key: string): Float64Array {
  const value = values.get(key);
  if (value instanceof Float64Array) return value;
  throw new TypeError(`${key} is no vector`);
}
