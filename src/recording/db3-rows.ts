import sqlite from 'node-sqlite3-wasm';
import { InputError, toError } from '../errors.ts';

/** SQLite's own errors speak of the file; everything else is passed on. */
export function asInput(thrown: unknown): Error {
  if (!(thrown instanceof sqlite.SQLite3Error)) return toError(thrown);
  return new InputError(`the SQLite database cannot be read (${thrown.message})`, { cause: thrown });
}

/** The text in a column; '' for anything else. */
export function textOf(row: sqlite.QueryResult, column: string): string {
  const value = row[column];
  return typeof value === 'string' ? value : '';
}

/** The whole number in a column; 0 for anything else. */
export function bigintOf(value: unknown): bigint {
  if (typeof value === 'bigint') return value;
  return typeof value === 'number' && Number.isSafeInteger(value) ? BigInt(value) : 0n;
}
