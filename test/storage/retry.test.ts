import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { CanceledError, StorageError, type StorageReason } from '../../src/errors.ts';
import { lockFile } from '../../src/storage/file-lock.ts';
import { createRetry } from '../../src/storage/retry.ts';
import { s3Error } from '../../src/storage/s3-errors.ts';
import { tempFolder } from './temp-folder.ts';

const failure = (reason: StorageReason) => new StorageError('planned', { retryable: true, reason });

/** The waits of a step that fails `times` times. */
async function waitsOf(reason: StorageReason, times: number): Promise<number[]> {
  const waits: number[] = [];
  let left = times;
  const retry = createRetry({
    maxAttempts: times + 1,
    baseMs: 1,
    capMs: 10,
    onRetry: (_, attempt, waitMs) => (waits[attempt - 1] = waitMs),
  });
  await retry(async () => {
    if (left-- > 0) throw failure(reason);
  });
  return waits;
}

test('waits double up to a cap, at least half of each is fixed, and a store that asks is left alone longer', async (t) => {
  const bounds = { network: [1, 2, 4, 8, 10, 10], throttled: [4, 8, 10, 10, 10, 10] };
  for (const [reason, expected] of Object.entries(bounds)) {
    const waits = await waitsOf(reason as StorageReason, expected.length);
    for (const [index, bound] of expected.entries()) {
      const wait = waits[index] ?? -1;
      t.true(wait >= bound / 2 && wait <= bound, `${reason} ${index}: ${wait} of ${bound}`);
    }
  }
  const many = await Promise.all(Array.from({ length: 20 }, () => waitsOf('network', 1)));
  t.true(new Set(many.map(([wait]) => wait)).size > 1, 'two workers do not wait equally long');
});

test('an abort ends the wait before a further try', async (t) => {
  const abort = new AbortController();
  const retry = createRetry({
    maxAttempts: 2,
    baseMs: 600_000,
    signal: abort.signal,
    onRetry: () => setImmediate(() => abort.abort(new CanceledError('lock-lost'))),
  });
  const error = await t.throwsAsync<CanceledError>(
    retry(async () => {
      throw failure('timeout');
    }),
    { instanceOf: CanceledError },
  );
  t.is(error.reason, 'lock-lost');
});

test('errors that are no failures of a store are thrown at once', async (t) => {
  let tries = 0;
  const retry = createRetry({ maxAttempts: 5, baseMs: 1 });
  await t.throwsAsync(
    retry(async () => {
      tries++;
      throw new TypeError('a mistake');
    }),
    { instanceOf: TypeError },
  );
  t.is(tries, 1);
});

/** An error as the SDK or Node throw it. */
const thrown = (name: string, more: { code?: string; status?: number; message?: string } = {}) =>
  Object.assign(new Error(more.message ?? `planned ${name}`), {
    name,
    ...(more.code === undefined ? {} : { code: more.code }),
    ...(more.status === undefined ? {} : { $metadata: { httpStatusCode: more.status } }),
  });

const judgements: [unknown, StorageReason, boolean][] = [
  [thrown('TimeoutError'), 'timeout', true],
  [thrown('Error', { code: 'ETIMEDOUT' }), 'timeout', true],
  [thrown('RequestTimeout', { status: 400 }), 'timeout', true],
  [thrown('Unknown', { status: 408 }), 'timeout', true],
  [thrown('TimeoutError', { code: 'ECONNRESET' }), 'network', true],
  [thrown('Error', { code: 'ECONNREFUSED' }), 'network', true],
  [thrown('Error', { code: 'ENOTFOUND' }), 'network', true],
  [thrown('Error', { code: 'EPIPE' }), 'network', true],
  [thrown('Error', { message: 'socket hang up' }), 'network', true],
  [thrown('Error', { message: 'aborted' }), 'network', true],
  [thrown('SyntaxError', { status: 200, message: 'x\n  Deserialization error: to see …' }), 'network', true],
  [thrown('SlowDown', { status: 503 }), 'throttled', true],
  [thrown('ThrottlingException', { status: 400 }), 'throttled', true],
  [thrown('Unknown', { status: 429 }), 'throttled', true],
  [thrown('InternalError', { status: 500 }), 'server_error', true],
  [thrown('ServiceUnavailable', { status: 503 }), 'server_error', true],
  [thrown('Unknown', { status: 502 }), 'server_error', true],
  [thrown('BadDigest', { status: 400 }), 'checksum', true],
  [thrown('XAmzContentSHA256Mismatch', { status: 400 }), 'checksum', true],
  [thrown('Error', { message: 'Checksum mismatch: expected "a" but received "b"' }), 'checksum', true],
  [thrown('OperationAborted', { status: 409 }), 'other', true],
  [thrown('ConditionalRequestConflict', { status: 409 }), 'other', true],
  [thrown('NotImplemented', { status: 501 }), 'other', false],
  [thrown('NoSuchKey', { status: 404 }), 'other', false],
  [thrown('NoSuchBucket', { status: 404 }), 'other', false],
  [thrown('AccessDenied', { status: 403 }), 'other', false],
  [thrown('403', { status: 403 }), 'other', false],
  [thrown('ExpiredToken', { status: 400 }), 'other', false],
  [thrown('PreconditionFailed', { status: 412 }), 'other', false],
  [thrown('EntityTooLarge', { status: 400 }), 'other', false],
  [thrown('CredentialsProviderError'), 'other', false],
  [new TypeError('x is not a function'), 'other', false],
  ['a text', 'other', false],
  [undefined, 'other', false],
  [{ strange: true }, 'other', false],
];

test('whatever is thrown has one of the six reasons, and only what may pass is tried again', (t) => {
  for (const [error, reason, retryable] of judgements) {
    const found = s3Error(error, 'write s3://bucket/key');
    t.true(found instanceof StorageError);
    if (!(found instanceof StorageError)) continue;
    t.deepEqual([found.reason, found.retryable], [reason, retryable], String(error));
    t.regex(found.message, /^cannot write s3:\/\/bucket\/key: ./);
    t.false(found.message.includes('\n'));
  }
});

test('what the store tells of the request stays out of the error', (t) => {
  const secret = Object.assign(thrown('SignatureDoesNotMatch', { status: 403 }), {
    AWSAccessKeyId: 'AKIASECRET',
    StringToSign: 'AWS4-HMAC-SHA256…',
    SignatureProvided: 'deadbeef',
  });
  const found = s3Error(secret, 'read s3://bucket/key');
  const cause = found.cause as Error;
  const text = [found.message, JSON.stringify(found), JSON.stringify(cause), cause.message, cause.stack].join(
    '\n',
  );
  t.notRegex(text, /AKIASECRET|AWS4-HMAC|deadbeef/);
});

test('of processes that want one lock, one at a time has it', async (t) => {
  const folder = await tempFolder(t);
  const [lock, counter] = [join(folder, 'lock'), join(folder, 'counter')];
  await writeFile(counter, '0');
  const script = `
    import { readFileSync, writeFileSync } from 'node:fs';
    import { setTimeout as delay } from 'node:timers/promises';
    import { lockFile } from ${JSON.stringify(new URL('../../src/storage/file-lock.js', import.meta.url).href)};
    for (let round = 0; round < 10; round++) {
      const lock = await lockFile(${JSON.stringify(lock)});
      const before = Number(readFileSync(${JSON.stringify(counter)}, 'utf8'));
      await delay(Math.random() * 5);
      writeFileSync(${JSON.stringify(counter)}, String(before + 1));
      await lock.release();
    }`;
  const children = Array.from({ length: 4 }, () =>
    spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'inherit' }),
  );
  const ends = await Promise.all(children.map((child) => once(child, 'exit')));
  t.deepEqual(
    ends.map(([code]) => code),
    [0, 0, 0, 0],
  );
  t.is(await readFile(counter, 'utf8'), '40');
});

test('a lock of another machine is waited for until it was not touched for half a minute', async (t) => {
  const path = join(await tempFolder(t), 'lock');
  await writeFile(path, '000000000000.1.1.elsewhere');
  const abort = new AbortController();
  const waiting = lockFile(path, abort.signal);
  setTimeout(() => abort.abort(new CanceledError('shutdown')), 300);
  await t.throwsAsync(waiting, { instanceOf: CanceledError });
  t.is(await readFile(path, 'utf8'), '000000000000.1.1.elsewhere');
  const longAgo = new Date(Date.now() - 40_000);
  await utimes(path, longAgo, longAgo);
  const lock = await lockFile(path);
  t.not(await readFile(path, 'utf8'), '000000000000.1.1.elsewhere');
  await lock.release();
  await lock.release();
  await t.throwsAsync(readFile(path), { code: 'ENOENT' });
});
