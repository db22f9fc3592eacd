import { join } from 'node:path';
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { demonstration } from './demonstration.ts';
import { PrivateRedis, randomPrefix } from './redis.ts';
import { startAnyS3Server, type S3Server } from './s3-server.ts';
import { startService, type Owner, type RunningService } from './service.ts';

/** Pods on one machine: processes with settings of their own around one Redis and one S3 server. */
export type Pods = {
  /** Starts a pod with so many workers; 0 = API only. */
  start(workers: number): Promise<RunningService>;
  /** Puts different recordings of one camera, of these lengths, into the bucket; resolves with what to enqueue. */
  upload(seconds: readonly number[]): Promise<{ source: string; task: string }[]>;
  /** The mapping of these recordings. */
  readonly config: unknown;
  /** URL that a dataset may be written to. */
  output(name: string): string;
};

/** The neighbours of the pods, which end with `owner`; undefined where no S3 server can be had. */
export async function startPods(
  owner: Owner,
  folder: string,
  env: Readonly<Record<string, string>>,
): Promise<Pods | undefined> {
  const server = await startAnyS3Server();
  if (server === undefined) return undefined;
  owner.teardown(() => server.stop());
  const redis = await PrivateRedis.start();
  owner.teardown(() => redis.end());
  const settings = {
    REDIS_URL: redis.url,
    QUEUE_PREFIX: randomPrefix(),
    AWS_ACCESS_KEY_ID: server.settings.credentials?.accessKeyId ?? '',
    AWS_SECRET_ACCESS_KEY: server.settings.credentials?.secretAccessKey ?? '',
    AWS_ENDPOINT_URL_S3: server.settings.endpoint,
    S3_FORCE_PATH_STYLE: 'true',
    SOURCE_ROOTS: `s3://${server.bucket}/raw/`,
    DESTINATION_ROOTS: `s3://${server.bucket}/datasets/`,
    ...env,
  };
  let started = 0;
  return {
    start: (workers) => {
      const own = join(folder, `pod-${started++}`);
      return startService(owner, {
        ...settings,
        WORKERS: String(workers),
        SCRATCH_DIR: join(own, 'scratch'),
        CACHE_DIR: join(own, 'cache'),
      });
    },
    upload: (seconds) => uploadRecordings(server, seconds),
    config: {
      fps: 30,
      clock: 'header',
      features: {
        'observation.images.cam_high': { topic: '/cam_high/image_raw/compressed', type: 'video' },
        'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
        action: { topic: '/joint_commands', field: 'position', names: 'all' },
      },
    },
    output: (name) => `s3://${server.bucket}/datasets/${name}`,
  };
}

async function uploadRecordings(
  { settings, bucket }: S3Server,
  lengths: readonly number[],
): Promise<{ source: string; task: string }[]> {
  const client = new S3Client({ ...settings, region: 'us-east-1', forcePathStyle: true });
  const sources = [];
  for (const [index, seconds] of lengths.entries()) {
    const task = `Demonstration ${index}`;
    const Body = await demonstration({ seconds, width: 320, height: 240, task });
    const Key = `raw/${String(index).padStart(2, '0')}.mcap`;
    await client.send(new PutObjectCommand({ Bucket: bucket, Key, Body }));
    sources.push({ source: `s3://${bucket}/${Key}`, task });
  }
  client.destroy();
  return sources;
}
