import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import { parse } from 'yaml';
import { writeDemoRecordings } from './demo-recordings.ts';

/**
 * The demo service of docker-compose.yml: puts the sample recordings into the bucket `raw`, enqueues them through the
 * API, and waits for the dataset in the bucket `datasets`. Settings: `API_URL`, `API_TOKEN`, the AWS SDK's variables,
 * `S3_FORCE_PATH_STYLE`, `DEMO_FOLDER` for temporary files.
 */

type Dataset = { readonly state: string; readonly frames: number; readonly episodes: Record<string, number> };

async function main(): Promise<void> {
  const folder = await mkdtemp(join(process.env['DEMO_FOLDER'] ?? tmpdir(), 'demo-'));
  try {
    const s3 = new S3Client({ forcePathStyle: process.env['S3_FORCE_PATH_STYLE'] === 'true' });
    const recordings = [];
    for (const path of await writeDemoRecordings(folder)) {
      const key = `demo/${basename(path)}`;
      await s3.send(new PutObjectCommand({ Bucket: 'raw', Key: key, Body: await readFile(path) }));
      recordings.push({ source: `s3://raw/${key}` });
      console.log(`uploaded s3://raw/${key}`);
    }
    const config: unknown = parse(
      await readFile(new URL('../../../deploy/local/demo.yaml', import.meta.url), 'utf8'),
    );
    const datasetId = `demo-${Date.now().toString(36)}`;
    await request('POST', '/v1/datasets', {
      datasetId,
      output: `s3://datasets/${datasetId}`,
      config,
      recordings,
    });
    console.log(`enqueued ${datasetId}: ${JSON.stringify(await ended(datasetId))}`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function ended(datasetId: string): Promise<Dataset> {
  for (;;) {
    const dataset = await request<Dataset>('GET', `/v1/datasets/${datasetId}`);
    if (dataset.state === 'completed') return dataset;
    if (['partial', 'failed', 'cancelled'].includes(dataset.state)) throw new Error(JSON.stringify(dataset));
    await pause(1000);
  }
}

async function request<T>(method: string, path: string, body?: unknown): Promise<T> {
  const url = new URL(path, process.env['API_URL'] ?? 'http://127.0.0.1:8080');
  const response = await fetch(url, {
    method,
    headers: {
      authorization: `Bearer ${process.env['API_TOKEN'] ?? ''}`,
      'content-type': 'application/json',
    },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  if (!response.ok)
    throw new Error(`${method} ${url.href} answered ${response.status}: ${await response.text()}`);
  return (await response.json()) as T;
}

await main();
