import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import test from 'ava';
import { temporaryFolder } from '../helpers/conversion.ts';
import { demonstration } from '../helpers/demonstration.ts';
import { PrivateRedis } from '../helpers/redis.ts';
import { startService, untilAsync } from '../helpers/service.ts';

const TOKEN = 'a-token-that-nobody-must-read';
type Line = Record<string, unknown>;

test('the log leads from a request to its job and stages, and holds no secret', async (t) => {
  const folder = await temporaryFolder(t);
  const redis = await PrivateRedis.start();
  t.teardown(() => redis.end());
  const service = await startService(t, {
    REDIS_URL: redis.url.replace('redis://', 'redis://default:pass-that-is-not-asked-for@'),
    WORKERS: '1',
    API_TOKEN: TOKEN,
    AWS_ACCESS_KEY_ID: 'AKIAIOSFODNN7EXAMPLE',
    AWS_SECRET_ACCESS_KEY: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
    SCRATCH_DIR: join(folder, 'scratch'),
    CACHE_DIR: join(folder, 'cache'),
  });
  await mkdir(join(folder, 'raw'));
  const recording = join(folder, 'raw', 'a.mcap');
  await writeFile(recording, await demonstration({ seconds: 1, cameras: [] }));
  const headers = { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' };
  const post = await fetch(`${service.url}/v1/datasets`, {
    method: 'POST',
    headers: { ...headers, 'x-request-id': 'request-1' },
    body: JSON.stringify({
      datasetId: 'cups',
      output: pathToFileURL(join(folder, 'dataset')).href,
      config: {
        fps: 30,
        task: 'Stack the cups.',
        features: { 'observation.state': { topic: '/joint_states', field: 'position', names: 'all' } },
      },
      recordings: [{ source: pathToFileURL(recording).href }],
    }),
  });
  t.is(post.status, 202, await post.text());
  await untilAsync(async () => {
    const answer = await fetch(`${service.url}/v1/datasets/cups`, { headers });
    return ((await answer.json()) as { state: string }).state === 'completed';
  });
  t.is(await service.end(), 0);

  const text = service.log();
  const lines = text
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line) as Line);
  const request = lines.find((line) => line['requestId'] === 'request-1');
  t.like(request, { method: 'POST', route: '/v1/datasets', status: 202 });

  const stages = lines.filter((line) => line['msg'] === 'stage ended');
  t.deepEqual(
    stages.map((line) => line['stage']),
    ['plan', 'convert', 'verify', 'upload'],
  );
  const [first] = stages;
  for (const line of stages) {
    t.is(line['datasetId'], 'cups');
    t.is(line['jobId'], first?.['jobId']);
    t.is(line['worker'], 0);
    t.is(line['recording'], pathToFileURL(recording).href);
    t.is(typeof line['durationMs'], 'number');
  }
  const ended = lines.filter((line) => line['msg'] === 'episode ended');
  t.is(ended.length, 1);
  t.like(ended[0], { datasetId: 'cups', jobId: first?.['jobId'], outcome: 'completed' });

  for (const secret of [TOKEN, 'pass-that-is-not-asked-for', 'wJalrXUtnFEMI', 'AKIAIOSFODNN7EXAMPLE']) {
    t.false(text.includes(secret), secret);
  }
});
