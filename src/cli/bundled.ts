import { createHash } from 'node:crypto';
import {
  accessSync,
  closeSync,
  constants,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writevSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cachedDataVersionTag } from 'node:v8';
import { Script } from 'node:vm';

/** A program in one file, running. */
export type Bundle<T> = {
  readonly exports: T;
  /** Whether V8 took over what it had compiled in an earlier run. */
  readonly warm: boolean;
  /** Keeps what is compiled by now beside the bundle, unless that was done before; a folder of somebody else is left alone. */
  keep(): void;
};

const HERE = fileURLToPath(new URL('.', import.meta.url));
/** Written by `deploy/local/bundle.mjs`. */
const BUNDLE = join(HERE, '../bundled/cli.cjs');
/** What it was made of. */
const ORIGIN = join(HERE, 'program.js');
const DIGEST_BYTES = 32;
/** Its first line, which names its content. */
const NAME = /^\/\/ ([0-9a-f]{64})\n/;

/**
 * Loads the program from one file, with what V8 compiled of it in an earlier run: reading and compiling a few hundred
 * modules is most of what a short conversion does itself. `undefined` where no bundle is, or one that is older than
 * the modules it was made of. The kept code is named after the bundle's content, and after V8 with its flags, which refuses
 * that of others.
 */
export function loadBundle<T>(path = BUNDLE, origin = ORIGIN): Bundle<T> | undefined {
  const text = readBundle(path, origin);
  const name = text === undefined ? undefined : NAME.exec(text)?.[1];
  if (text === undefined || name === undefined) return undefined;
  const kept = `${path}.${name.slice(0, 16)}.${cachedDataVersionTag()}.cache`;
  const cachedData = readKept(kept);
  const parameters = 'exports, require, module, __filename, __dirname';
  const script = new Script(`(function (${parameters}) {${text}\n})`, {
    filename: path,
    ...(cachedData && { cachedData }),
  });
  const warm = cachedData !== undefined && script.cachedDataRejected !== true;
  const module = { exports: {} as T };
  const run = script.runInThisContext() as (...values: unknown[]) => void;
  run(module.exports, createRequire(path), module, path, dirname(path));
  return {
    exports: module.exports,
    warm,
    keep: () => {
      if (!warm && isWritable(dirname(path))) writeKept(kept, script.createCachedData());
    },
  };
}

function readBundle(path: string, origin: string): string | undefined {
  const [made, changed] = [path, origin].map((each) => statSync(each, { throwIfNoEntry: false })?.mtimeMs);
  if (made === undefined || changed === undefined || made < changed) return undefined;
  return readFileSync(path, 'latin1'); // it is ASCII
}

function isWritable(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK);
    return true;
  } catch {
    // As where a package is installed for all users, or an image is read-only: then there is nothing to keep.
    return false;
  }
}

const digestOf = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest();

/** What was kept; V8 takes it on trust, so that it must be what was written. What cannot be read was not kept. */
function readKept(path: string): Buffer | undefined {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (thrown) {
    throwUnlessOfSystem(thrown);
    return undefined;
  }
  const code = bytes.subarray(DIGEST_BYTES);
  return digestOf(code).equals(bytes.subarray(0, DIGEST_BYTES)) ? code : undefined;
}

function writeKept(path: string, code: Uint8Array): void {
  const temporary = `${path}.${process.pid}`;
  try {
    const file = openSync(temporary, 'wx', 0o644);
    try {
      writevSync(file, [digestOf(code), code]);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  } catch (thrown) {
    rmSync(temporary, { force: true });
    throwUnlessOfSystem(thrown);
  }
}

/** A full disk, or a file of another user: the command has done its work, and the next one compiles for itself. */
function throwUnlessOfSystem(thrown: unknown): void {
  if (typeof (thrown as NodeJS.ErrnoException).errno !== 'number') throw thrown;
}
