import { join } from 'node:path';
import test from 'ava';
import { watchConsumption } from '../../src/cluster/consumption.ts';
import { Fleet } from '../../src/cluster/fleet.ts';
import { createLog } from '../../src/log.ts';
import { temporaryFolder } from '../helpers/conversion.ts';
import { PrivateRedis } from '../helpers/redis.ts';
import { untilAsync } from '../helpers/service.ts';

test('a worker that idles while jobs wait is replaced twice; then the pod says that only a new one can help', async (t) => {
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
  const fleet = new Fleet({
    slots: 1,
    log,
    onFork: () => undefined,
    onExit: ({ reason }) => reasons.push(reason),
  });
  // jobs that this real worker will never see: it stays alive and idle
  let load = { waiting: 0, paused: false };
  const watch = watchConsumption({ fleet, log, load: async () => load, stuckMs: 300, intervalMs: 50 });
  t.teardown(async () => {
    watch.stop();
    await fleet.drain();
  });
  fleet.start();
  await untilAsync(async () => fleet.idle().length === 1);
  await new Promise((resolve) => setTimeout(resolve, 600));
  t.deepEqual(reasons, [], 'nobody is blamed while nothing waits');
  t.like(watch.reading(), { stuck: false, hopeless: false, lastActivitySeconds: null });

  load = { waiting: 3, paused: true };
  await new Promise((resolve) => setTimeout(resolve, 600));
  t.deepEqual(reasons, [], 'nor while the queue is paused');

  load = { waiting: 3, paused: false };
  await untilAsync(async () => watch.reading().hopeless);
  t.deepEqual(reasons, ['hung', 'hung']);
  t.true(watch.reading().stuck);

  load = { waiting: 0, paused: false };
  await untilAsync(async () => !watch.reading().stuck);
  t.false(watch.reading().hopeless);
});
