import { join } from 'node:path';
import test from 'ava';
import { Redis } from 'ioredis';
import { temporaryFolder } from '../helpers/conversion.ts';
import { PrivateRedis } from '../helpers/redis.ts';
import { startService, untilAsync } from '../helpers/service.ts';
import { valueOf } from '../metrics/pool.ts';

type Check = { status: string; error?: string };
type Report = {
  status: string;
  draining: boolean;
  checks: { redis: Check & { policy: string }; queue: Check & { counts: object }; workers: Check & object };
};

test('while Redis is away or evicts the pod lives, is not ready and says why; one that evicts is refused at start', async (t) => {
  const folder = await temporaryFolder(t);
  const redis = await PrivateRedis.start();
  t.teardown(() => redis.end());
  const service = await startService(t, {
    REDIS_URL: redis.url,
    WORKERS: '1',
    SCRATCH_DIR: join(folder, 'scratch'),
    CACHE_DIR: join(folder, 'cache'),
  });
  const before = await service.get<Report>('/health');
  t.is(before.status, 200);
  t.is(before.body.status, 'ok');
  t.is(before.body.checks.redis.policy, 'noeviction');
  t.like(before.body.checks.queue.counts, { waiting: 0, prioritized: 0, active: 0, delayed: 0, failed: 0 });
  t.like(before.body.checks.workers, { slots: 1, running: 1, busy: 0, missing: 0, restartsLastHour: 0 });

  await redis.kill();
  const killedAt = performance.now();
  const down = await untilAsync(async () => {
    const start = performance.now();
    const answer = await service.get<Report>('/health');
    t.true(performance.now() - start < 5000);
    // Readings are used again for up to 2 s, so the queue may be the first to tell.
    const told = answer.status === 503 && answer.body.checks.redis.status === 'unavailable';
    return told && answer;
  });
  t.is(down.body.status, 'unavailable');
  t.true(performance.now() - killedAt < 10_000, 'the report names Redis within seconds');
  t.truthy(down.body.checks.redis.error);
  t.is((await service.get('/livez')).status, 200);
  const ready = await service.get<{ ok: boolean; reasons: string[] }>('/readyz');
  t.is(ready.status, 503);
  t.regex(ready.body.reasons.join(), /redis/);
  await untilAsync(async () => valueOf((await service.get('/metrics')).text, 'roboflow_redis_up') === 0);

  await redis.resume();
  await untilAsync(async () => (await service.get('/readyz')).status === 200);
  t.is((await service.get<Report>('/health')).status, 200);

  const admin = new Redis(redis.url);
  t.teardown(() => admin.disconnect());
  await admin.config('SET', 'maxmemory-policy', 'allkeys-lru');
  const unsafe = await untilAsync(async () => {
    const answer = await service.get<Report>('/health');
    return answer.body.checks.redis.policy === 'allkeys-lru' && answer;
  });
  t.is(unsafe.status, 200, 'what waits is still worked on');
  t.is(unsafe.body.status, 'degraded');
  const unready = await service.get<{ reasons: string[] }>('/readyz');
  t.is(unready.status, 503);
  t.regex(unready.body.reasons.join(), /noeviction, found allkeys-lru/);
  t.is(await service.end(), 0);

  const env = { REDIS_URL: redis.url, WORKERS: '1', SCRATCH_DIR: join(folder, 'scratch') };
  await t.throwsAsync(startService(t, env), {
    message: /ended with 1:.*cannot hold jobs: expected the maxmemory-policy noeviction, found allkeys-lru/s,
  });
});
