import type { Worker } from 'node:cluster';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { watchConsumption } from '../../src/cluster/consumption.ts';
import { Fleet } from '../../src/cluster/fleet.ts';
import { createLog } from '../../src/log.ts';
import { temporaryFolder } from '../helpers/conversion.ts';
import { PrivateRedis } from '../helpers/redis.ts';
import { untilAsync } from '../helpers/service.ts';

async function rig(t: ExecutionContext, watching: { stuckMs?: number; silentMs?: number }) {
  const folder = await temporaryFolder(t);
  const redis = await PrivateRedis.start();
  t.teardown(() => redis.end());
  Object.assign(process.env, {
    REDIS_URL: redis.url,
    SCRATCH_DIR: join(folder, 'scratch'),
    CACHE_DIR: join(folder, 'cache'),
    LOG_LEVEL: 'error',
  });
  const log = createLog({ level: 'silent', format: 'json' });
  const reasons: string[] = [];
  const workers: Worker[] = [];
  const fleet = new Fleet({
    slots: 1,
    log,
    onFork: (worker) => workers.push(worker),
    onExit: ({ reason }) => reasons.push(reason),
  });
  const load = { waiting: 0, paused: false };
  const watch = watchConsumption({ fleet, log, load: async () => load, ...watching, intervalMs: 50 });
  t.teardown(async () => {
    watch.stop();
    await fleet.drain();
  });
  fleet.start();
  await untilAsync(async () => fleet.idle().length === 1);
  return { fleet, watch, load, reasons, workers };
}

test.serial('a worker whose event loop stands still is replaced, also while nothing waits', async (t) => {
  const { fleet, watch, reasons, workers } = await rig(t, { silentMs: 8000 });
  workers[0]?.process.kill('SIGSTOP');
  await untilAsync(async () => reasons.length > 0 && fleet.idle().length === 1);
  t.deepEqual(reasons, ['hung']);
  t.is(workers.length, 2);
  t.like(watch.reading(), { stuck: false, hopeless: false });
});

test.serial(
  'a worker that idles while jobs wait is replaced twice; then the pod says that only a new one can help',
  async (t) => {
    // jobs that this real worker will never see: it stays alive and idle
    const { watch, load, reasons } = await rig(t, { stuckMs: 300 });
    await new Promise((resolve) => setTimeout(resolve, 600));
    t.deepEqual(reasons, [], 'nobody is blamed while nothing waits');
    t.like(watch.reading(), { stuck: false, hopeless: false, lastActivitySeconds: null });

    Object.assign(load, { waiting: 3, paused: true });
    await new Promise((resolve) => setTimeout(resolve, 600));
    t.deepEqual(reasons, [], 'nor while the queue is paused');

    Object.assign(load, { waiting: 3, paused: false });
    await untilAsync(async () => watch.reading().hopeless);
    t.deepEqual(reasons, ['hung', 'hung']);
    t.true(watch.reading().stuck);

    Object.assign(load, { waiting: 0, paused: false });
    await untilAsync(async () => !watch.reading().stuck);
    t.false(watch.reading().hopeless);
  },
);
