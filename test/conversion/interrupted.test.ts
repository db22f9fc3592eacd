import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { CanceledError, StorageError } from '../../src/errors.ts';
import type { Storage } from '../../src/storage/types.ts';
import { bench, temporaryFolder } from '../helpers/conversion.ts';
import { demonstration } from '../helpers/demonstration.ts';

const config = {
  fps: 30,
  clock: 'header',
  features: {
    'observation.images.cam_high': { topic: '/cam_high/image_raw/compressed', type: 'video' },
    'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
  },
};

async function recordingOf(t: ExecutionContext): Promise<string> {
  const path = join(await temporaryFolder(t), 'recording.mcap');
  await writeFile(path, await demonstration({ seconds: 1 }));
  return path;
}

/** A real store whose writes of some keys fail with `error`. */
function failingOn(storage: Storage, key: RegExp, error: () => Error): Storage {
  return new Proxy(storage, {
    get(target, name) {
      if (name === 'put') {
        return (...args: Parameters<Storage['put']>) =>
          key.test(args[0]) ? Promise.reject(error()) : target.put(...args);
      }
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

const forbidden = () => new StorageError('forbidden', { retryable: false, reason: 'other' });
const flaky = () => new StorageError('reset', { retryable: true, reason: 'network' });
const files = async (folder: string) =>
  (await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []))
    .filter((entry) => entry.isFile())
    .map((entry) => entry.name);

test('an upload that is refused for good takes back what it had sent', async (t) => {
  const plain = await bench(t);
  const output = failingOn(plain.context.output, /episodes\/.*\.json$/, forbidden);
  const { convert, scratch } = await bench(t, { output });
  await t.throwsAsync(convert(await recordingOf(t), config), { name: 'StorageError', message: /forbidden/ });
  t.deepEqual(await files(plain.output), []);
  t.deepEqual(await files(scratch), []);
});

test('an interrupted upload is gone on with by the next attempt, without a second conversion', async (t) => {
  const recording = await recordingOf(t);
  const plain = await bench(t);
  const upload = { concurrency: 2, maxAttempts: 1 };
  const output = failingOn(plain.context.output, /\.mp4$/, flaky);
  const first = await bench(t, { output, upload, scratch: plain.context.scratch, retryFollows: true });
  await t.throwsAsync(first.convert(recording, config), { name: 'StorageError' });
  t.true((await files(plain.context.scratch)).includes('checkpoint.json'));

  const { manifest } = await plain.convert(recording, config);
  t.is(manifest.episodes[0]?.frames, 30);
  const encoded = await plain.metrics.video.framesEncoded.get();
  t.deepEqual(
    encoded.values.filter(({ value }) => value > 0),
    [],
    'nothing was encoded again',
  );
  t.deepEqual(await files(plain.context.scratch), []);
});

test('a shutdown during the upload leaves the verified files to the next attempt', async (t) => {
  const recording = await recordingOf(t);
  const plain = await bench(t);
  const stop = new AbortController();
  const { convert } = await bench(t, {
    output: plain.context.output,
    scratch: plain.context.scratch,
    signal: stop.signal,
    onProgress: ({ stage }) => {
      if (stage === 'upload') stop.abort(new CanceledError('shutdown'));
    },
  });
  await t.throwsAsync(convert(recording, config), { name: 'CanceledError' });
  t.true((await files(plain.context.scratch)).includes('checkpoint.json'));
  await plain.convert(recording, config);
  t.deepEqual(await files(plain.context.scratch), []);
});

test('a conversion that is cancelled leaves nothing', async (t) => {
  const plain = await bench(t);
  const stop = new AbortController();
  const { convert, scratch, output } = await bench(t, {
    signal: stop.signal,
    onProgress: ({ stage }) => {
      if (stage === 'convert') stop.abort(new CanceledError('cancelled'));
    },
  });
  await t.throwsAsync(convert(await recordingOf(t), config), { name: 'CanceledError' });
  t.deepEqual(await files(scratch), []);
  t.deepEqual(await files(output), []);
  t.is((await plain.metrics.conversion.activeConversions.get()).values[0]?.value, 0);
});
