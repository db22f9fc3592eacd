import { mkdir, statfs } from 'node:fs/promises';
import { Registry } from 'prom-client';
import { type Config, s3Settings, secretsOf } from '../config.ts';
import { sweepScratch } from '../conversion/checkpoint.ts';
import type { Log } from '../conversion/types.ts';
import { revision, version } from '../conversion/version.ts';
import { InputError, toError } from '../errors.ts';
import { createApp } from '../http/app.ts';
import { createBoardRouter } from '../http/board.ts';
import { createDatasetRouter } from '../http/datasets.ts';
import { createEventRouter } from '../http/events.ts';
import { createHealth, healthRouter } from '../http/health.ts';
import { createJobRouter } from '../http/jobs.ts';
import { listen } from '../http/listen.ts';
import { metricsRouter } from '../http/metrics.ts';
import { createOpenApiRouter } from '../http/openapi.ts';
import { createScalingRouter } from '../http/scaling.ts';
import { createWatchRouter } from '../http/watches.ts';
import { createLog } from '../log.ts';
import { ClusterMetrics } from '../metrics/cluster.ts';
import { peerOf } from '../metrics/cluster-peer.ts';
import { createMetrics, createPrimaryMetrics } from '../metrics/index.ts';
import { watchEventLoop } from '../metrics/process.ts';
import { startQueuePolling } from '../metrics/queue.ts';
import { createExposition } from '../metrics/server.ts';
import { failCrashedJob } from '../queue/crash.ts';
import { Producer } from '../queue/producer.ts';
import { openStorage } from '../storage/open.ts';
import { watchConsumption } from './consumption.ts';
import { Fleet, type WorkerExit } from './fleet.ts';
import { allowedLocation, allowedSources } from './locations.ts';
import { onSignals } from './shutdown.ts';
import { tracingOf } from './tracing.ts';

/** Before the grace ends, running jobs are handed back; they need this long at most, and half of a short grace. */
const HAND_BACK_MS = 5000;

/**
 * The primary of a pod: API, health and metrics, and the workers. Resolves when it serves; the process ends itself on
 * the second signal, or on the first when everything is handed back. Throws `InputError` when Redis would lose jobs.
 */
export async function startPrimary(config: Config): Promise<void> {
  const tracing = await tracingOf(config, 'primary');
  const log = createLog({
    level: config.LOG_LEVEL,
    format: config.LOG_FORMAT,
    traceId: () => tracing?.traceId(),
    secrets: secretsOf(config),
  });
  const registry = new Registry();
  const metrics = createMetrics(registry);
  const own = createPrimaryMetrics(registry, { version, revision });
  const cluster = new ClusterMetrics({ registry });
  const s3 = s3Settings(config);
  const producer = new Producer({
    redis: { url: config.REDIS_URL },
    prefix: config.QUEUE_PREFIX,
    log,
    telemetry: tracing?.telemetry,
    checkSource: (location, signal) =>
      allowedSources(location, config.SOURCE_ROOTS, { metrics: metrics.storage, s3, signal }),
    checkPrefix: (location) => allowedLocation(location, config.SOURCE_ROOTS, 'prefix'),
    checkOutput: (location) => allowedLocation(location, config.DESTINATION_ROOTS, 'output'),
    openOutput: (url) =>
      openStorage(url, {
        metrics: metrics.storage,
        role: 'destination',
        s3,
        roots: config.DESTINATION_ROOTS,
      }),
  });
  await refuseUnfitRedis(producer, log);
  await mkdir(config.SCRATCH_DIR, { recursive: true });
  const swept = await sweepScratch(config.SCRATCH_DIR);
  if (swept > 0) log.info({ attempts: swept }, 'removed what dead attempts left in scratch');

  let draining = false;
  const givingBack = new Set<Promise<void>>();
  /** Ends what would keep the server from closing. */
  const stopping = new AbortController();
  const fleet = new Fleet({
    slots: config.WORKERS,
    log,
    onFork: (worker) => cluster.add(peerOf(worker)),
    onExit: (exit) => {
      if (!draining) own.pool.restarts.inc({ reason: exit.reason });
      const given = giveBack(exit).finally(() => givingBack.delete(given));
      givingBack.add(given);
    },
  });
  const giveBack = async ({ jobs, detail, killed }: WorkerExit) => {
    for (const job of jobs) {
      try {
        await failCrashedJob({ client: producer.client, metrics, log }, job, detail, killed);
      } catch (thrown) {
        // The queue's own stall detection takes over.
        log.error({ jobId: job.jobId, err: toError(thrown) }, 'job of a dead worker could not be given back');
      }
    }
  };
  const consumption = watchConsumption({
    fleet,
    log,
    lockMs: config.LOCK_DURATION_MS,
    load: async () => {
      const { counts, paused } = await producer.queue('episodes');
      return { waiting: counts.waiting + counts.prioritized, paused };
    },
  });
  const loop = watchEventLoop();
  const health = createHealth({
    version,
    probes: {
      redis: () => producer.redis(),
      queue: () => producer.queue('episodes'),
      workers: () => ({ ...fleet.status(), missing: Math.max(fleet.status().missing, cluster.silent()) }),
      consumption: () => consumption.reading(),
      draining: () => draining,
      loopLagSeconds: () => loop.lagSeconds(),
    },
  });
  const polling = startQueuePolling(registry, {
    read: async () => {
      const [redis, ...queues] = await Promise.all([
        producer.redis(),
        producer.queue('episodes'),
        producer.queue('datasets'),
      ]);
      return { redis, queues };
    },
    scratch: async () => {
      const { bavail, blocks, bsize } = await statfs(config.SCRATCH_DIR);
      return { free: bavail * bsize, size: blocks * bsize };
    },
    onChange: ({ up, error }) => {
      if (up) log.info({}, 'redis answers again');
      else log.warn({ err: error }, 'redis does not answer');
    },
  });
  const exposition = createExposition(cluster);
  const app = createApp({
    log,
    token: config.API_TOKEN,
    tracing,
    observe: (observation) => own.http.observe(observation),
    routers: [
      healthRouter(health),
      createDatasetRouter(producer),
      createJobRouter(producer),
      createScalingRouter(producer),
      createWatchRouter(producer),
      createEventRouter(producer, { signal: stopping.signal }),
      createOpenApiRouter(version),
      ...(config.BOARD_ENABLED ? [createBoardRouter(producer)] : []),
      ...(config.METRICS_ENABLED
        ? [
            metricsRouter({
              scrape: (accept) => {
                const { slots, busy } = fleet.status();
                own.pool.slots.set(slots);
                own.pool.busy.set(busy);
                return exposition.scrape(accept);
              },
            }),
          ]
        : []),
    ],
  });
  const server = await listen(app, { host: config.HTTP_HOST, port: config.HTTP_PORT });
  fleet.start();
  log.info({ host: config.HTTP_HOST, port: server.port, workers: config.WORKERS, version }, 'serving');

  const drain = async (signal: string) => {
    draining = true;
    log.info(
      { signal, graceSeconds: config.SHUTDOWN_GRACE_SECONDS },
      'draining: running jobs may end, no new ones',
    );
    const graceMs = config.SHUTDOWN_GRACE_SECONDS * 1000;
    const handBack = setTimeout(
      () => {
        log.warn({}, 'the grace ends: handing running jobs back');
        fleet.broadcast({ type: 'abort' });
      },
      Math.max(graceMs / 2, graceMs - HAND_BACK_MS),
    );
    const kill = setTimeout(() => {
      log.error({}, 'the grace is over: killing the workers that are left');
      fleet.kill();
    }, graceMs + HAND_BACK_MS);
    await fleet.drain();
    clearTimeout(handBack);
    clearTimeout(kill);
    consumption.stop();
    loop.stop();
    await polling.stop();
    stopping.abort();
    await server.close();
    await Promise.all(givingBack);
    await producer.close();
    await tracing?.stop();
    log.info({}, 'drained');
  };
  onSignals({
    first: (signal) => {
      drain(signal).then(
        () => process.exit(0),
        (thrown: unknown) => {
          log.error({ err: toError(thrown) }, 'the drain failed');
          process.exit(1);
        },
      );
    },
    second: (signal) => {
      log.warn({ signal }, 'second signal: ending at once');
      fleet.kill();
      process.exit(1);
    },
  });
}

/** Redis that is too old or that evicts is refused; one that is away may come. */
async function refuseUnfitRedis(producer: Producer, log: Log): Promise<void> {
  let faults: readonly string[];
  try {
    ({ faults } = await producer.redis());
  } catch (thrown) {
    log.warn({ err: toError(thrown) }, 'redis does not answer yet; waiting for it');
    return;
  }
  if (faults.length === 0) return;
  await producer.close();
  throw new InputError(`this Redis cannot hold jobs: ${faults.join('; ')}`);
}
