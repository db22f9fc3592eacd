import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { boundCheckpoints, sweepScratch } from '../../src/conversion/checkpoint.ts';
import { CanceledError, StorageError } from '../../src/errors.ts';
import type { ConversionResult } from '../../src/conversion/types.ts';
import type { Storage } from '../../src/storage/types.ts';
import { bench, temporaryFolder } from '../helpers/conversion.ts';
import { demonstration, demonstrationChannels } from '../helpers/demonstration.ts';
import { mcapOf } from '../helpers/recordings.ts';

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
  t.regex(
    await plain.registry.metrics(),
    /roboflow_video_encoding_duration_seconds_count 0/,
    'nothing was encoded again',
  );
  // the attempt that encoded them published nothing, the one that published them encoded nothing
  const frames = await Promise.all([first, plain].map(({ metrics }) => metrics.video.framesEncoded.get()));
  t.deepEqual(
    frames.map(({ values }) => values.map(({ value }) => value)),
    [[0], [30]],
  );
  t.deepEqual(await files(plain.context.scratch), []);
});

test('a store that is away fills scratch up to a limit: of the files kept for it the oldest are given up', async (t) => {
  const recording = await recordingOf(t);
  const plain = await bench(t);
  const root = join(plain.folder, 'scratch');
  const output = failingOn(plain.context.output, /\.mp4$/, flaky);
  const upload = { concurrency: 2, maxAttempts: 1 };
  const kept = async () =>
    (await readdir(root, { recursive: true })).filter((path) => path.endsWith('checkpoint.json'));
  const sizes = async () => {
    const entries = await readdir(root, { recursive: true, withFileTypes: true });
    const found = entries.filter((entry) => entry.isFile());
    const stats = await Promise.all(found.map((entry) => stat(join(entry.parentPath, entry.name))));
    return stats.reduce((sum, { size }) => sum + size, 0);
  };
  const interrupt = async (key: string, scratchKeepBytes: number) => {
    const scratch = join(root, key);
    const away = await bench(t, { output, upload, scratch, scratchKeepBytes, retryFollows: true });
    await t.throwsAsync(away.convert(recording, config, key), { name: 'StorageError' });
  };
  await interrupt('a', 1e9);
  const one = await sizes();
  const limit = Math.round(2.5 * one);
  for (const key of ['b', 'c', 'd', 'e']) {
    await interrupt(key, limit);
    t.true((await sizes()) <= limit, key);
  }
  t.deepEqual(
    (await kept()).map((path) => String(path.split('/')[0])).toSorted(),
    ['d', 'e'],
    'two have room, the youngest',
  );
  t.deepEqual((await readdir(root)).toSorted(), ['d', 'e']);
  // one that is taken over just now is nobody's to remove; one of the day before is
  const [alive] = await readdir(join(root, 'd'));
  await rename(join(root, 'd', alive ?? ''), join(root, 'd', `attempt-${process.pid}-x`));
  t.is(await boundCheckpoints(root, 0), 1);
  t.deepEqual(await readdir(root), ['d']);
  await mkdir(join(root, 'dead', 'attempt-0-without-checkpoint'), { recursive: true });
  t.is(await boundCheckpoints(root, 0), 0);
  t.is(await boundCheckpoints(root, 0, Date.now() + 25 * 3_600_000), 1);
  t.deepEqual(await readdir(root), ['d']);
});

test('verified files that were damaged before their upload are never published, and converted anew', async (t) => {
  const recording = await recordingOf(t);
  const plain = await bench(t);
  const upload = { concurrency: 2, maxAttempts: 1 };
  const output = failingOn(plain.context.output, /\.mp4$/, flaky);
  const first = await bench(t, { output, upload, scratch: plain.context.scratch, retryFollows: true });
  await t.throwsAsync(first.convert(recording, config), { name: 'StorageError' });
  const [name] = (await readdir(plain.context.scratch, { recursive: true })).filter((each) =>
    each.endsWith('.mp4'),
  );
  const video = join(plain.context.scratch, name ?? '');
  const bytes = await readFile(video);
  bytes[bytes.length - 100] = ~(bytes.at(-100) ?? 0) & 0xff;
  await writeFile(video, bytes);

  const second = await bench(t, {
    output: plain.context.output,
    scratch: plain.context.scratch,
    retryFollows: true,
  });
  const error = await t.throwsAsync(second.convert(recording, config), {
    name: 'StorageError',
    message: /damaged/,
  });
  t.true((error as StorageError).retryable);
  t.false((await files(plain.output)).some((each) => each.endsWith('.json')));
  t.is((await plain.convert(recording, config)).outcome, 'completed');
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

test('what a process that was killed while it published left in scratch is swept', async (t) => {
  const plain = await bench(t);
  await plain.convert(await recordingOf(t), config, 'a');
  const killed = new Promise<never>(() => {});
  const output = new Proxy(plain.context.output, {
    get(target, name) {
      if (name === 'put') return () => killed;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
  const publishing = await bench(t, { output, scratch: join(plain.scratch, 'publishing') });
  void publishing.finalize(config, ['a']);
  const tables = async () => (await files(plain.scratch)).filter((name) => name.endsWith('.parquet'));
  while ((await tables()).length === 0) await sleep(20);
  t.is(await sweepScratch(plain.scratch), 0);
  const [attempt = ''] = await readdir(join(plain.scratch, 'publishing'));
  const dead = attempt.replace(String(process.pid), '0');
  await rename(join(plain.scratch, 'publishing', attempt), join(plain.scratch, 'publishing', dead));
  t.is(await sweepScratch(plain.scratch), 1);
  t.deepEqual(await files(plain.scratch), []);
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

/** Three episodes of a second in one recording, with a video each; in the last the joints may lie outside of numbers. */
async function cutInThree(t: ExecutionContext, damaged: boolean) {
  const folder = await temporaryFolder(t);
  const channels = (await demonstrationChannels({ seconds: 3 })).map((channel) => ({
    ...channel,
    messages: channel.messages.map((message, i) =>
      damaged && channel.topic === '/joint_states' && i === channel.messages.length - 5
        ? { ...message, value: { ...(message.value as object), position: [0, Number.NaN, 0, 0] } }
        : message,
    ),
  }));
  const source = join(folder, 'cut.mcap');
  await writeFile(source, await mcapOf({ channels }));
  const marks = [0, 1, 2].map((start) => ({ start, end: start + 0.9 }));
  await writeFile(join(folder, 'cut.json'), JSON.stringify(marks));
  return { source, config: { ...config, format: 'v2.1', episodes: { split: { marks: '{name}.json' } } } };
}

/** A bench that notes in which stage each file is begun to be sent. */
async function watched(t: ExecutionContext) {
  const plain = await bench(t);
  const sent: { key: string; stage: string }[] = [];
  let stage = 'plan';
  const put: Storage['put'] = (key, ...rest) => {
    sent.push({ key, stage });
    return plain.context.output.put(key, ...rest);
  };
  const output = new Proxy(plain.context.output, {
    get(target, name) {
      const value: unknown = name === 'put' ? put : Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
  const onProgress = (progress: { stage: string }) => (stage = progress.stage);
  return { ...(await bench(t, { output, onProgress })), output: plain.output, sent };
}

test('a video that is complete is sent while the rest is converted, the manifest last', async (t) => {
  const { source, config: cut } = await cutInThree(t, false);
  const { convert, sent, output, scratch } = await watched(t);
  const { manifest, upload } = await convert(source, cut);
  t.is(manifest.episodes.length, 3);
  t.is(sent[0]?.stage, 'convert', JSON.stringify(sent));
  t.regex(sent[0]?.key ?? '', /\.mp4$/);
  t.regex(sent.at(-1)?.key ?? '', /^\.roboflow\/episodes\/.*\.json$/);
  t.is(sent.length, 5, 'three videos, the table, the manifest: each once');
  t.is(upload.files, 5);
  t.is(upload.reused, 0);
  t.is((await files(output)).length, 5);
  t.deepEqual(await files(scratch), []);
});

test('what was sent of a recording that turns out damaged is taken back', async (t) => {
  const { source, config: cut } = await cutInThree(t, true);
  const { convert, sent, output } = await watched(t);
  await t.throwsAsync(convert(source, cut), { name: 'InputError', message: /NaN/ });
  t.true(sent.length > 0 && sent.every(({ key }) => key.endsWith('.mp4')), JSON.stringify(sent));
  t.deepEqual(await files(output), []);
});

test('finalizing from a store that does not answer ends with its signal', async (t) => {
  const stop = new AbortController();
  const plain = await bench(t);
  await plain.convert(await recordingOf(t), config);
  const output = new Proxy(plain.context.output, {
    get(target, name) {
      if (name === 'open') {
        return (...[key, options]: Parameters<Storage['open']>) => {
          if (!key.endsWith('.parquet')) return target.open(key, options);
          stop.abort(new CanceledError('shutdown'));
          options?.signal?.throwIfAborted();
          return new Promise(() => undefined);
        };
      }
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
  const { finalize } = await bench(t, { output, signal: stop.signal });
  await t.throwsAsync(finalize(config, ['episode']), { name: 'CanceledError', message: /shutdown/ });
});

test('of two attempts at once one publishes, and the other finds its work done', async (t) => {
  const recording = await recordingOf(t);
  const plain = await bench(t);
  let second: ConversionResult | undefined;
  let theirs: object = config;
  // the first attempt reaches its manifest when the second one has published
  const output = new Proxy(plain.context.output, {
    get(target, name) {
      if (name === 'put') {
        return async (...args: Parameters<Storage['put']>) => {
          if (args[0].endsWith('.json')) second ??= await plain.convert(recording, theirs);
          return target.put(...args);
        };
      }
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
  const first = await bench(t, { output });
  const { outcome, manifest } = await first.convert(recording, config);
  t.is(second?.outcome, 'completed');
  t.is(outcome, 'completed');
  t.deepEqual(manifest, second?.manifest);
  const episode = ['episode.json', 'episode.parquet', 'file-000.mp4'];
  t.deepEqual((await files(plain.output)).toSorted(), episode);
  const frames = await Promise.all([plain, first].map(({ metrics }) => metrics.video.framesEncoded.get()));
  t.deepEqual(
    frames.map(({ values }) => values.reduce((sum, { value }) => sum + value, 0)),
    [30, 0],
    'counted by the one that published',
  );
  // of another config: neither overwrites the manifest that somebody else wrote, nor takes away its files
  [second, theirs] = [undefined, { ...config, fps: 10 }];
  const late = first.convert(recording, { ...config, fps: 15 });
  await t.throwsAsync(late, { name: 'StorageError', message: /somebody else/ });
  t.deepEqual(
    (await files(plain.output)).toSorted(),
    [...episode, 'episode.1.parquet', 'file-1000.mp4'].toSorted(),
  );
  t.is((await plain.convert(recording, theirs)).outcome, 'skipped', 'what was published first stays');
  t.deepEqual(await files(first.scratch), []);
});

test('a converted recording whose files are gone is converted again, and fails while they cannot be written', async (t) => {
  const recording = await recordingOf(t);
  const { convert, output, context } = await bench(t);
  const first = await convert(recording, config);
  const whole = await files(output);
  for (const { path } of first.manifest.files) {
    await rm(join(output, path));
    const refused = await bench(t, {
      output: failingOn(context.output, new RegExp(`${path}$`), forbidden),
    });
    await t.throwsAsync(refused.convert(recording, config), { name: 'StorageError' });
    const again = await convert(recording, config);
    t.is(again.outcome, 'completed', path);
    t.deepEqual(again.manifest, first.manifest);
    t.deepEqual(await files(output), whole);
    t.is((await convert(recording, config)).outcome, 'skipped');
  }
});
