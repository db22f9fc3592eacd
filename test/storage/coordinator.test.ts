import { createHash, randomBytes } from 'node:crypto';
import { readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { Registry } from 'prom-client';
import { CanceledError, InputError, StorageError, type StorageReason } from '../../src/errors.ts';
import { createStorageMetrics } from '../../src/metrics/storage.ts';
import { createUploadMetrics } from '../../src/metrics/upload.ts';
import { UploadCoordinator, type UploadCoordinatorOptions } from '../../src/storage/coordinator.ts';
import { LocalStorage } from '../../src/storage/local.ts';
import type { PutBody, PutOptions, PutResult, UploadFile, UploadProgress } from '../../src/storage/types.ts';
import { sample } from '../helpers/samples.ts';
import { tempFolder } from './temp-folder.ts';

const text = (value: string) => ({ bytes: new TextEncoder().encode(value) });
const parquet = (key: string, value: string): UploadFile => ({ key, type: 'parquet', body: text(value) });

function metricsOn(registry: Registry) {
  return { storage: createStorageMetrics(registry), upload: createUploadMetrics(registry) };
}

/** A real folder whose `put` first fails as often as planned; knows how many run at once. */
class FlakyStorage extends LocalStorage {
  readonly plan = new Map<string, StorageError[]>();
  running = 0;
  mostRunning = 0;

  override async put(key: string, body: PutBody, options: PutOptions = {}): Promise<PutResult> {
    this.mostRunning = Math.max(this.mostRunning, ++this.running);
    try {
      const retry = options.retry ?? ((step) => step());
      return await retry(async () => {
        const failure = this.plan.get(key)?.shift();
        if (failure !== undefined) throw failure;
        return super.put(key, body, { ...options, retry: (step) => step() });
      });
    } finally {
      this.running--;
    }
  }
}

const failure = (reason: StorageReason, retryable = true) =>
  new StorageError(`planned ${reason}`, { reason, retryable });

async function setUp(t: ExecutionContext, options: Partial<UploadCoordinatorOptions> = {}) {
  const root = join(await tempFolder(t), 'dataset');
  const registry = new Registry();
  const metrics = metricsOn(registry);
  const storage = new FlakyStorage(root, { metrics: metrics.storage, role: 'destination' });
  const start = (more: Partial<UploadCoordinatorOptions> = {}) =>
    new UploadCoordinator({
      storage,
      concurrency: 2,
      maxAttempts: 3,
      metrics,
      signal: new AbortController().signal,
      retryBaseMs: 1,
      ...options,
      ...more,
    });
  return { root, registry, metrics, storage, start };
}

test('an episode is sent, acknowledged with its checksums, and counted to the byte', async (t) => {
  const { root, registry, start } = await setUp(t);
  const video = join(await tempFolder(t), 'a.mp4');
  await writeFile(video, randomBytes(2_500_000));
  const progress: UploadProgress[] = [];
  const uploads = start({ onProgress: (moved) => progress.push(moved) });
  const added = [
    uploads.add({ key: 'videos/cam/file-000.mp4', type: 'video', body: { path: video } }),
    uploads.add(parquet('.roboflow/data/a.parquet', 'rows')),
    uploads.add({ key: '.roboflow/report.json', type: 'meta', body: text('{}') }),
  ];
  t.is(await sample(registry, 'roboflow_pending_uploads'), 3);
  const manifest = await uploads.publish({ key: '.roboflow/a.json', type: 'meta', body: text('{"a":1}') });
  for (const file of await Promise.all(added)) {
    const info = await stat(join(root, file.key));
    t.is(info.size, file.bytes);
  }
  t.is(manifest.sha256, createHash('sha256').update('{"a":1}').digest('hex'));
  t.is(await sample(registry, 'roboflow_pending_uploads'), 0);
  const written = (type: string) =>
    sample(registry, 'roboflow_bytes_written_total', { destination: 'file', type });
  t.is(await written('video'), 2_500_000);
  t.is(await written('parquet'), 4);
  t.is(await written('meta'), 9);
  t.is(await sample(registry, 'roboflow_upload_bytes_total'), 2_500_013);
  for (const [type, count] of Object.entries({ video: 1, parquet: 1, meta: 2 })) {
    t.is(await sample(registry, 'roboflow_upload_duration_seconds_count', { file_type: type }), count, type);
  }
  const { seconds, ...counts } = uploads.stats();
  t.deepEqual(counts, { files: 4, bytes: 2_500_013, retries: 0, reused: 0 });
  t.true(seconds > 0);
  const last = progress.at(-1);
  t.deepEqual(last, { key: '.roboflow/a.json', bytes: 7, size: 7, filesDone: 4, files: 4 });
  t.true(progress.some((moved) => moved.bytes > 0 && moved.bytes < moved.size));
  await uploads.close();
});

test('no more files are in flight than allowed', async (t) => {
  const { storage, start } = await setUp(t);
  const uploads = start({ concurrency: 3 });
  await Promise.all(
    Array.from({ length: 20 }, (_, index) => uploads.add(parquet(`data/${index}`, `rows ${index}`))),
  );
  t.is(storage.mostRunning, 3);
});

test('failing steps are repeated and counted by their reason, and the bytes count once', async (t) => {
  const { registry, storage, start } = await setUp(t);
  const reasons = ['timeout', 'throttled', 'network', 'server_error', 'checksum', 'other'] as const;
  const warnings: object[] = [];
  const uploads = start({ log: { warn: (fields) => warnings.push(fields) } });
  for (const reason of reasons) {
    storage.plan.set(`data/${reason}`, [failure(reason), failure(reason)]);
    await uploads.add(parquet(`data/${reason}`, 'rows'));
  }
  for (const reason of reasons)
    t.is(await sample(registry, 'roboflow_upload_retries_total', { reason }), 2, reason);
  t.is(await sample(registry, 'roboflow_upload_bytes_total'), 4 * reasons.length);
  t.is(uploads.stats().retries, 2 * reasons.length);
  t.is(warnings.length, 2 * reasons.length);
});

test('a failure that stays is thrown after the last try, a refusal at once, and neither publishes', async (t) => {
  const { root, registry, storage, start } = await setUp(t);
  const uploads = start();
  storage.plan.set(
    'data/stays',
    [1, 2, 3, 4].map(() => failure('server_error')),
  );
  storage.plan.set('data/refused', [failure('other', false)]);
  const stays = uploads.add(parquet('data/stays', 'rows'));
  const refused = uploads.add(parquet('data/refused', 'rows'));
  const stored = uploads.add(parquet('data/stored', 'rows'));
  const published = uploads.publish({ key: 'manifest.json', type: 'meta', body: text('{}') });
  await t.throwsAsync(stays, { message: 'planned server_error' });
  await t.throwsAsync(refused, { message: 'planned other' });
  await t.notThrowsAsync(stored);
  const error = await t.throwsAsync<StorageError>(published, { instanceOf: StorageError });
  t.regex(error.message, /^2 of 3 files were not stored \(data\/stays: .*; data\/refused: /);
  t.false(error.retryable, 'one of them is a refusal');
  t.is(await storage.head('manifest.json'), undefined);
  t.is(storage.plan.get('data/stays')?.length, 1, 'three tries');
  t.is(await sample(registry, 'roboflow_upload_retries_total', { reason: 'server_error' }), 2);
  t.is(await sample(registry, 'roboflow_upload_retries_total', { reason: 'other' }), 0);
  t.is(await sample(registry, 'roboflow_pending_uploads'), 0);
  t.is(await sample(registry, 'roboflow_upload_bytes_total'), 4);
  t.deepEqual(await readdir(join(root, 'data')), ['stored']);
});

test('a failed add that nobody waits for ends no process, and publish tells it', async (t) => {
  const { storage, start } = await setUp(t);
  storage.plan.set('data/a', [failure('other', false)]);
  const uploads = start();
  void uploads.add(parquet('data/a', 'rows'));
  await t.throwsAsync(uploads.publish(parquet('manifest.json', '{}')), { message: /data\/a: planned other/ });
});

test('of two attempts that publish one manifest, one wins and the other is refused for good', async (t) => {
  const { storage, start } = await setUp(t);
  const attempts = [start(), start()].map(async (uploads, index) => {
    await uploads.add(parquet('data/a', 'the same rows'));
    return uploads.publish(parquet('manifest.json', `attempt ${index}`), { ifAbsent: true });
  });
  const outcomes = await Promise.allSettled(attempts);
  const lost = outcomes.filter((outcome) => outcome.status === 'rejected');
  t.is(lost.length, 1);
  t.true(lost[0]?.reason instanceof StorageError && !lost[0].reason.retryable);
  const etag = (await storage.head('manifest.json'))?.etag ?? '';
  await start().publish(parquet('manifest.json', 'an append'), { ifMatch: etag });
  await t.throwsAsync(start().publish(parquet('manifest.json', 'too late'), { ifMatch: etag }), {
    instanceOf: StorageError,
  });
});

test('the next attempt sends only what an earlier one did not leave in place', async (t) => {
  const { registry, start } = await setUp(t);
  const first = start();
  await first.add(parquet('data/a', 'rows of a'));
  await first.add(parquet('data/b', 'rows of b'));
  await first.close();
  const second = start();
  const same = await second.add(parquet('data/a', 'rows of a'));
  await second.add(parquet('data/b', 'ROWS OF B'));
  await second.add(parquet('data/c', 'rows of c'));
  t.is(same.sha256, createHash('sha256').update('rows of a').digest('hex'));
  const { files, reused, bytes } = second.stats();
  t.deepEqual({ files, reused, bytes }, { files: 3, reused: 1, bytes: 18 });
  t.is(await sample(registry, 'roboflow_upload_bytes_total'), 36);
  t.is(await sample(registry, 'roboflow_upload_duration_seconds_count', { file_type: 'parquet' }), 4);
});

test('an abort stops everything, publishes nothing and brings the gauge back to 0', async (t) => {
  const { root, registry, storage, start } = await setUp(t);
  const abort = new AbortController();
  const big = join(await tempFolder(t), 'big');
  await writeFile(big, randomBytes(5_000_000));
  const uploads = start({
    signal: abort.signal,
    concurrency: 1,
    onProgress: () => abort.abort(new CanceledError('lock-lost')),
  });
  const adds = ['a', 'b', 'c'].map((key) => uploads.add({ key, type: 'video', body: { path: big } }));
  const published = uploads.publish(parquet('manifest.json', '{}'));
  for (const promise of [...adds, published]) {
    const error = await t.throwsAsync<CanceledError>(promise, { instanceOf: CanceledError });
    t.is(error.reason, 'lock-lost');
  }
  await uploads.close();
  t.deepEqual(await readdir(root), []);
  t.is(storage.running, 0);
  t.is(await sample(registry, 'roboflow_pending_uploads'), 0);
  t.is(await sample(registry, 'roboflow_upload_bytes_total'), 0);
});

test('closing ends waits and uploads in flight, and nothing is taken afterwards', async (t) => {
  const { storage, registry, start } = await setUp(t, { retryBaseMs: 600_000 });
  storage.plan.set('a', [failure('network')]);
  const uploads = start();
  const add = uploads.add(parquet('a', 'x'));
  await uploads.close();
  await t.throwsAsync(add, { instanceOf: CanceledError });
  t.is(await sample(registry, 'roboflow_pending_uploads'), 0);
  t.throws(() => uploads.add(parquet('b', 'x')), { message: /after close/ });
  await uploads.close();
});

test('a body that vanished, and a key that is none, fail their file alone', async (t) => {
  const { start } = await setUp(t);
  const uploads = start();
  const absent = uploads.add({ key: 'a', type: 'video', body: { path: '/absent/video.mp4' } });
  await t.throwsAsync(absent, {
    instanceOf: StorageError,
    message: /\/absent\/video\.mp4: it does not exist/,
  });
  await t.throwsAsync(uploads.add(parquet('../a', 'x')), { instanceOf: InputError });
  await t.notThrowsAsync(uploads.add(parquet('b', 'x')));
});
