import test, { type ExecutionContext } from 'ava';
import { createApp } from '../../src/http/app.ts';
import { createHealth, healthRouter, type HealthProbes } from '../../src/http/health.ts';
import { listen } from '../../src/http/listen.ts';
import { createLog } from '../../src/log.ts';

const COUNTS = { waiting: 5, prioritized: 0, active: 2, delayed: 0, failed: 1 };

function healthy(): HealthProbes {
  return {
    redis: async () => ({ latencyMs: 0.4, policy: 'noeviction', aof: true, faults: [] }),
    queue: async () => ({ name: 'episodes', counts: COUNTS, oldestWaitingSeconds: 12, paused: false }),
    workers: () => ({ slots: 4, running: 4, busy: 2, missing: 0, restartsLastHour: 0 }),
    consumption: () => ({ lastActivitySeconds: 3, stuck: false }),
    draining: () => false,
    loopLagSeconds: () => 0.01,
  };
}

async function serve(t: ExecutionContext, changes: Partial<HealthProbes>, budgetMs = 1000) {
  const health = createHealth({ probes: { ...healthy(), ...changes }, version: '1.4.0', budgetMs });
  const log = createLog({ level: 'silent', format: 'json' });
  const listening = await listen(createApp({ routers: [healthRouter(health)], log }), {
    host: '127.0.0.1',
    port: 0,
  });
  t.teardown(() => listening.close({ graceMs: 50 }));
  return async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${listening.port}${path}`);
    return {
      code: response.status,
      cache: response.headers.get('cache-control'),
      body: (await response.json()) as Record<string, unknown>,
    };
  };
}

test('the report has the agreed shape and is not cached', async (t) => {
  const get = await serve(t, {});
  const { code, cache, body } = await get('/health');
  t.is(code, 200);
  t.is(cache, 'no-store');
  const { uptimeSeconds, ...rest } = body;
  t.true(Number.isInteger(uptimeSeconds));
  t.deepEqual(rest, {
    status: 'ok',
    version: '1.4.0',
    draining: false,
    checks: {
      redis: { status: 'ok', latencyMs: 0.4, policy: 'noeviction', aof: true, faults: [] },
      queue: {
        status: 'ok',
        name: 'episodes',
        counts: COUNTS,
        oldestWaitingSeconds: 12,
        paused: false,
      },
      workers: { status: 'ok', slots: 4, running: 4, busy: 2, missing: 0, restartsLastHour: 0 },
      consumption: { status: 'ok', lastActivitySeconds: 3, stuck: false },
    },
  });
});

const WORKERS = { slots: 2, running: 2, busy: 0, missing: 0, restartsLastHour: 0 };
const REDIS = { latencyMs: 1, policy: 'noeviction', aof: true, faults: [] };
type Expected = { health: [number, string]; live: number; ready: number };
const states: [string, Partial<HealthProbes>, Expected][] = [
  ['all is well', {}, { health: [200, 'ok'], live: 200, ready: 200 }],
  [
    'Redis refuses',
    { redis: () => Promise.reject(new Error('connect ECONNREFUSED')) },
    { health: [503, 'unavailable'], live: 200, ready: 503 },
  ],
  [
    'Redis evicts',
    { redis: async () => ({ ...REDIS, policy: 'allkeys-lru', faults: ['it evicts'] }) },
    { health: [200, 'degraded'], live: 200, ready: 503 },
  ],
  [
    'Redis keeps no log',
    { redis: async () => ({ ...REDIS, aof: false }) },
    { health: [200, 'degraded'], live: 200, ready: 200 },
  ],
  [
    'Redis tells neither',
    { redis: async () => ({ ...REDIS, policy: 'unknown', aof: null }) },
    { health: [200, 'ok'], live: 200, ready: 200 },
  ],
  [
    'the queue is paused',
    { queue: async () => ({ name: 'episodes', counts: COUNTS, oldestWaitingSeconds: null, paused: true }) },
    { health: [200, 'degraded'], live: 200, ready: 200 },
  ],
  [
    'one of two workers runs',
    { workers: () => ({ ...WORKERS, running: 1 }) },
    { health: [200, 'degraded'], live: 200, ready: 200 },
  ],
  [
    'no worker runs',
    { workers: () => ({ ...WORKERS, running: 0 }) },
    { health: [503, 'unavailable'], live: 200, ready: 503 },
  ],
  [
    'the pod serves the API only',
    { workers: () => ({ ...WORKERS, slots: 0, running: 0 }) },
    { health: [200, 'ok'], live: 200, ready: 200 },
  ],
  [
    'every slot crashes at once',
    { workers: () => ({ ...WORKERS, running: 1, crashLooping: 2 }) },
    { health: [200, 'degraded'], live: 503, ready: 200 },
  ],
  [
    'one of two slots crashes at once',
    { workers: () => ({ ...WORKERS, running: 1, crashLooping: 1 }) },
    { health: [200, 'degraded'], live: 200, ready: 200 },
  ],
  ['the event loop is 6 s late', { loopLagSeconds: () => 6 }, { health: [200, 'ok'], live: 503, ready: 200 }],
  [
    'work waits and nobody takes it',
    { consumption: () => ({ lastActivitySeconds: 200, stuck: true }) },
    { health: [200, 'degraded'], live: 200, ready: 200 },
  ],
  [
    'replacing the idle worker did not help',
    { consumption: () => ({ lastActivitySeconds: 900, stuck: true, hopeless: true }) },
    { health: [503, 'unavailable'], live: 503, ready: 200 },
  ],
  ['the pod drains', { draining: () => true }, { health: [200, 'ok'], live: 200, ready: 503 }],
];
for (const [what, changes, expected] of states) {
  test(`codes when ${what}`, async (t) => {
    const get = await serve(t, changes);
    const health = await get('/health');
    t.deepEqual([health.code, health.body['status']], expected.health);
    t.is((await get('/livez')).code, expected.live);
    const ready = await get('/readyz');
    t.is(ready.code, expected.ready);
    t.is((ready.body['reasons'] as unknown[]).length > 0, expected.ready === 503);
  });
}

test('a probe that hangs costs its budget once, and the last values are shown with their age', async (t) => {
  let hang = false;
  let runs = 0;
  const get = await serve(
    t,
    {
      queue: () => {
        runs += 1;
        return hang ? new Promise(() => undefined) : healthy().queue();
      },
    },
    100,
  );
  const first = await get('/health');
  t.is(first.code, 200);
  hang = true;
  await new Promise((resolve) => setTimeout(resolve, 1050));
  const answers = await Promise.all([get('/health'), get('/health'), get('/health')]);
  t.is(runs, 2, 'the three share one run');
  for (const { code, body } of answers) {
    t.is(code, 503);
    const { queue } = body['checks'] as { queue: Record<string, unknown> };
    t.is(queue['status'], 'unavailable');
    t.is(queue['error'], 'no answer within 100 ms');
    t.deepEqual(queue['counts'], COUNTS);
    t.true(Number(queue['ageSeconds']) >= 1);
  }
});

test('liveness does not wait for Redis', async (t) => {
  const get = await serve(t, { redis: () => new Promise(() => undefined) });
  let answered = false;
  const ready = get('/readyz').then((answer) => {
    answered = true;
    return answer;
  });
  t.is((await get('/livez')).code, 200);
  t.false(answered, 'readiness still waits');
  t.is((await ready).code, 503);
});
