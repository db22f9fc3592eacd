import { open, writeFile } from 'node:fs/promises';
import sqlite from 'node-sqlite3-wasm';
import { InputError } from '../errors.ts';
import { piecesOf, spoolCopy, spoolLink } from './spool.ts';
import type { SpooledFile, SpoolOptions } from './spool.ts';
import type { Loss, RecordingFile } from './types.ts';

/** A database in a folder of its own, opened. */
export type OpenedDatabase = { readonly database: sqlite.Database; readonly spooled: SpooledFile };

/** Bytes of the database file format's header (sqlite.org/fileformat.html, 1.3). */
const HEADER = 100n;

/**
 * Opens a database through a link in a folder of its own: the library puts a lock folder beside the file it opens,
 * and a source stays untouched and may be read by several processes at once. One that was left in write-ahead mode is
 * copied together with its log, `wal`, which SQLite then works in.
 */
export async function openDatabase(
  file: RecordingFile,
  wal: RecordingFile | undefined,
  options: SpoolOptions,
  losses: Loss[],
): Promise<OpenedDatabase> {
  const header = await headerOf(file);
  const spooled = await (header.writeAhead ? spoolCopy(file, options) : spoolLink(file, options));
  try {
    if (!header.writeAhead) return opened(spooled, true);
    if (wal) await addLog(wal, `${spooled.path}-wal`, options);
    else
      losses.push({
        what: 'the database was left in write-ahead mode without its -wal file: its end may be missing',
      });
    return opened(spooled, false);
  } catch (thrown) {
    await spooled.close();
    throw thrown;
  }
}

/**
 * Opens what is left of a database that is shorter than its header says: a copy whose header tells the pages that
 * are there, so that SQLite reads those and refuses the others.
 */
export async function openCutDatabase(file: RecordingFile, options: SpoolOptions): Promise<OpenedDatabase> {
  const { pageSize } = await headerOf(file);
  const spooled = await spoolCopy(file, options);
  try {
    const handle = await open(spooled.path, 'r+');
    try {
      const pages = Math.floor(Number(await file.size()) / pageSize);
      await handle.truncate(pages * pageSize);
      const count = new Uint8Array(4);
      new DataView(count.buffer).setUint32(0, pages);
      await handle.write(count, 0, 4, 28);
      await handle.write(Uint8Array.of(1, 1), 0, 2, 18);
    } finally {
      await handle.close();
    }
    return opened(spooled, true);
  } catch (thrown) {
    await spooled.close();
    throw thrown;
  }
}

async function headerOf(file: RecordingFile): Promise<{ writeAhead: boolean; pageSize: number }> {
  const size = await file.size();
  if (size < HEADER) throw new InputError(`expected a SQLite database, found ${size} bytes of one`);
  const bytes = await file.read(0n, HEADER);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const declared = view.getUint16(16);
  const pageSize = declared === 1 ? 65_536 : declared;
  if (pageSize < 512 || (pageSize & (pageSize - 1)) !== 0) {
    throw new InputError(`expected a SQLite database with pages of a power of two, found ${pageSize} bytes`);
  }
  return { writeAhead: view.getUint8(18) === 2 || view.getUint8(19) === 2, pageSize };
}

function opened(spooled: SpooledFile, readOnly: boolean): OpenedDatabase {
  const database = new sqlite.Database(spooled.path, { readOnly, fileMustExist: true });
  try {
    // a write-ahead log can be used without shared memory by one that has the file for itself
    if (!readOnly) database.exec('PRAGMA locking_mode = EXCLUSIVE');
    // one transaction from the first read to the end: a lock is a folder, made and removed for each otherwise
    database.exec('BEGIN');
    return { database, spooled };
  } catch (thrown) {
    database.close();
    throw thrown;
  }
}

async function addLog(wal: RecordingFile, path: string, { signal }: SpoolOptions): Promise<void> {
  for await (const piece of piecesOf(wal, 4 << 20, signal)) await writeFile(path, piece, { flag: 'a' });
}
