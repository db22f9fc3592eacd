import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import test from 'ava';
import { temporaryFolder } from '../helpers/conversion.ts';
import { demonstration } from '../helpers/demonstration.ts';
import { PrivateRedis, randomPrefix } from '../helpers/redis.ts';
import { startAnyS3Server, type S3Server } from '../helpers/s3-server.ts';
import { startService, type RunningService } from '../helpers/service.ts';

/** A fleet on one machine: pods are processes with settings of their own around one Redis and one S3 server. */

type Dataset = {
  readonly state: string;
  readonly frames: number;
  readonly episodes: { readonly total: number; readonly completed: number };
  readonly failures: readonly unknown[];
};
type Jobs = { readonly items: readonly { readonly state: string; readonly attempts: number }[] };

const episodes = 16;
const framesEach = 90;
const config = {
  fps: 30,
  clock: 'header',
  features: {
    'observation.images.cam_high': { topic: '/cam_high/image_raw/compressed', type: 'video' },
    'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
    action: { topic: '/joint_commands', field: 'position', names: 'all' },
  },
};

/** Different recordings in the bucket; resolves with what to enqueue. */
async function uploadRecordings({ settings, bucket }: S3Server): Promise<{ source: string; task: string }[]> {
  const client = new S3Client({ ...settings, region: 'us-east-1', forcePathStyle: true });
  const sources = [];
  for (let index = 0; index < episodes; index++) {
    const task = `Demonstration ${index}`;
    const Body = await demonstration({ seconds: framesEach / 30, width: 320, height: 240, task });
    const Key = `raw/${String(index).padStart(2, '0')}.mcap`;
    await client.send(new PutObjectCommand({ Bucket: bucket, Key, Body }));
    sources.push({ source: `s3://${bucket}/${Key}`, task });
  }
  client.destroy();
  return sources;
}

test.serial(
  'a fleet scaled 1 → 4 → 1 during a batch loses nothing, and drained pods burn no attempts',
  async (t) => {
    t.timeout(170_000);
    const server = await startAnyS3Server();
    if (server === undefined) {
      t.log('skipped: there is no S3 server to be had');
      t.pass();
      return;
    }
    t.teardown(() => server.stop());
    const redis = await PrivateRedis.start();
    t.teardown(() => redis.end());
    const folder = await temporaryFolder(t);
    const settings = {
      REDIS_URL: redis.url,
      QUEUE_PREFIX: randomPrefix(),
      AWS_ACCESS_KEY_ID: server.settings.credentials?.accessKeyId ?? '',
      AWS_SECRET_ACCESS_KEY: server.settings.credentials?.secretAccessKey ?? '',
      AWS_ENDPOINT_URL_S3: server.settings.endpoint,
      S3_FORCE_PATH_STYLE: 'true',
      SOURCE_ROOTS: `s3://${server.bucket}/raw/`,
      DESTINATION_ROOTS: `s3://${server.bucket}/datasets/`,
      // Shorter than a conversion and the time it takes to hand one back: a drained pod hands back what it does.
      SHUTDOWN_GRACE_SECONDS: '5',
    };
    let started = 0;
    const pod = (workers: number) => {
      const own = join(folder, `pod-${started++}`);
      return startService(t, {
        ...settings,
        WORKERS: String(workers),
        SCRATCH_DIR: join(own, 'scratch'),
        CACHE_DIR: join(own, 'cache'),
      });
    };

    const api = await pod(0);
    const running: RunningService[] = [];
    const drained: { pod: RunningService; exit: Promise<number | string | null> }[] = [];
    const sizes: number[] = [];
    const scaleTo = async (size: number) => {
      const missing = Math.max(0, size - running.length);
      running.push(...(await Promise.all(Array.from({ length: missing }, () => pod(1)))));
      while (running.length > size) {
        const leaving = running.pop() as RunningService;
        drained.push({ pod: leaving, exit: leaving.end('SIGTERM') });
      }
      if (sizes.at(-1) !== running.length) sizes.push(running.length);
    };

    const recordings = await uploadRecordings(server);
    const output = `s3://${server.bucket}/datasets/fleet`;
    const answer = await api.post('/v1/datasets', { datasetId: 'fleet', output, config, recordings });
    t.is(answer.status, 202, answer.text);

    let dataset: Dataset;
    for (;;) {
      dataset = (await api.get<Dataset>('/v1/datasets/fleet')).body;
      if (!['planning', 'converting', 'finalizing'].includes(dataset.state)) break;
      const { value } = (await api.get<{ value: number }>('/v1/scaling')).body;
      const { completed } = dataset.episodes;
      // The bounds an operator sets; between them the number decides, at one slot a pod.
      const most = completed < 1 || completed >= 6 ? 1 : 4;
      await scaleTo(Math.min(most, Math.max(1, value)));
      await pause(200);
    }
    const left = (await api.get<{ value: number }>('/v1/scaling')).body.value;
    const { items } = (await api.get<Jobs>('/v1/jobs?dataset=fleet&limit=100')).body;
    await scaleTo(0);
    const exits = await Promise.all(drained.map(({ exit }) => exit));
    t.log(`pods: ${sizes.join(' → ')}`);

    t.is(dataset.state, 'completed', JSON.stringify(dataset.failures));
    t.deepEqual([dataset.episodes.completed, dataset.frames], [episodes, episodes * framesEach]);
    t.is(Math.max(...sizes), 4);
    t.deepEqual([sizes[0], sizes.at(-2)], [1, 1]);
    t.is(left, 0);
    t.deepEqual(
      items.map(({ state, attempts }) => `${state} ${attempts}`),
      Array.from({ length: episodes }, () => 'completed 1'),
    );
    t.deepEqual([...new Set(exits)], [0]);
    const handedBack = drained.filter((gone) => gone.pod.log().includes('handing running jobs back'));
    t.true(handedBack.length > 0, 'no pod was drained in the middle of a conversion');
  },
);
