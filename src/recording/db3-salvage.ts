import { setImmediate } from 'node:timers/promises';
import type sqlite from 'node-sqlite3-wasm';
import { InputError, throwIfAborted } from '../errors.ts';
import { asInput, bigintOf } from './db3-rows.ts';

/** A row of a damaged database that can be reached, without its payload. */
export type SalvagedRow = { readonly id: bigint; readonly topic: number; readonly time: bigint };

/** Rows taken in one go. */
const SLICE_ROWS = 2000;

/** How far the search jumps over rows that cannot be reached, at first and at last. */
const FIRST_JUMP = 8n;
const LAST_JUMP = 1n << 20n;

/** Row numbers beyond this are not a recorder's. */
const MAX_ID = 1n << 53n;

/**
 * Every row that can be reached without the time index, in order of time. Where a page is missing the search jumps
 * ahead, in growing steps, until it finds rows again or the end.
 */
export async function salvageRows(
  database: sqlite.Database,
  signal: AbortSignal | undefined,
): Promise<SalvagedRow[]> {
  const rows: SalvagedRow[] = [];
  let after = -(1n << 63n);
  let jump = FIRST_JUMP;
  for (;;) {
    throwIfAborted(signal);
    const slice = take(database, after);
    for (const row of slice.rows) rows.push(row);
    const last = slice.rows.at(-1);
    if (last) {
      after = last.id;
      jump = FIRST_JUMP;
    }
    if (!slice.broken && slice.rows.length < SLICE_ROWS) break;
    if (slice.broken) {
      // nothing was reached yet: ids are counted from 1
      after = (after < 0n ? 0n : after) + jump;
      if (jump > LAST_JUMP || after > MAX_ID) break;
      jump *= 4n;
    }
    await setImmediate();
  }
  return rows.toSorted((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : a.id < b.id ? -1 : 1));
}

/** The payload of one row; undefined when a page of it is missing. */
export function payloadOf(database: sqlite.Database, id: bigint): Uint8Array | undefined {
  try {
    const data = database.get('SELECT data FROM messages WHERE id = ?', [id])?.['data'];
    return data instanceof Uint8Array ? data : undefined;
  } catch (thrown) {
    const error = asInput(thrown);
    if (!(error instanceof InputError)) throw error;
    return undefined;
  }
}

function take(database: sqlite.Database, after: bigint): { rows: SalvagedRow[]; broken: boolean } {
  const rows: SalvagedRow[] = [];
  let statement: sqlite.Statement | undefined;
  try {
    statement = database.prepare(
      'SELECT id, topic_id, timestamp FROM messages NOT INDEXED WHERE id > ? ORDER BY id LIMIT ?',
    );
    let before = after;
    for (const row of statement.iterate([after, SLICE_ROWS])) {
      const id = bigintOf(row['id']);
      // pages that refer to each other in a circle give the same rows again
      if (id <= before) return { rows, broken: true };
      before = id;
      rows.push({ id, topic: Number(row['topic_id']), time: bigintOf(row['timestamp']) });
    }
    return { rows, broken: false };
  } catch (thrown) {
    const error = asInput(thrown);
    if (!(error instanceof InputError)) throw error;
    return { rows, broken: true };
  } finally {
    if (statement) release(statement);
  }
}

/** Finalizing repeats the error of the last step, which was reported when it happened. */
export function release(statement: sqlite.Statement): void {
  try {
    statement.finalize();
  } catch (thrown) {
    const error = asInput(thrown);
    if (!(error instanceof InputError)) throw error;
  }
}
