import cluster from 'node:cluster';
import { hostname } from 'node:os';
import { Registry } from 'prom-client';
import { type Config, s3Settings, secretsOf, workerSlot } from '../config.ts';
import { convertEpisode } from '../conversion/convert.ts';
import { logEncoders } from '../conversion/encoders.ts';
import { finalizeDataset } from '../conversion/finalize.ts';
import { createLog } from '../log.ts';
import { createMetrics, createWorkerMetrics } from '../metrics/index.ts';
import { startSnapshots } from '../metrics/snapshot-push.ts';
import { Consumer } from '../queue/consumer.ts';
import { SourceCache } from '../storage/cache.ts';
import { expandSources } from '../storage/expand-sources.ts';
import { assertInsideRoots } from '../storage/location.ts';
import { openStorage } from '../storage/open.ts';
import { tracingOf } from './tracing.ts';
import { isToWorker, type ToPrimary } from './messages.ts';

/** How long a worker whose primary died tries to hand its jobs back. */
const ORPHAN_GRACE_MS = 5000;

/**
 * One worker process: a consumer of the queues, its own registry pushed to the primary. Signals are the primary's
 * business (Ctrl+C reaches the whole group): it says `drain`, and `abort` when the time is up.
 */
export async function startWorker(config: Config): Promise<void> {
  const slot = workerSlot();
  const tracing = await tracingOf(config, `worker ${slot}`);
  const log = createLog({
    level: config.LOG_LEVEL,
    format: config.LOG_FORMAT,
    bindings: { worker: slot },
    traceId: () => tracing?.traceId(),
    secrets: secretsOf(config),
  });
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => undefined);
  const registry = new Registry();
  const metrics = createMetrics(registry);
  const own = createWorkerMetrics(registry, slot);
  const snapshots = startSnapshots(registry, process, { refresh: () => own.slot.refresh() });
  const s3 = s3Settings(config);
  const cache = new SourceCache({
    folder: config.CACHE_DIR,
    maxBytes: config.CACHE_MAX_BYTES,
    metrics: metrics.storage,
    log,
  });
  const announce = (message: ToPrimary) => {
    if (process.connected) process.send?.(message);
  };

  const consumer = new Consumer({
    redis: { url: config.REDIS_URL },
    prefix: config.QUEUE_PREFIX,
    name: `${hostname()}#${slot}`,
    lockDurationMs: config.LOCK_DURATION_MS,
    stalledIntervalMs: config.STALLED_INTERVAL_MS,
    defaultAttempts: config.JOB_ATTEMPTS,
    telemetry: tracing?.telemetry,
    openOutput: (url) =>
      openStorage(url, {
        metrics: metrics.storage,
        role: 'destination',
        s3,
        roots: config.DESTINATION_ROOTS,
      }),
    convert: (request, context) =>
      convertEpisode(request, {
        ...context,
        sources: { s3, cache, roots: config.SOURCE_ROOTS },
        onProgress: (progress) => {
          context.onProgress?.(progress);
          stagePush(progress.stage);
        },
        onStageEnd: (ended, seconds) => tracing?.ended(ended, seconds, { recording: request.source }),
      }),
    finalize: finalizeDataset,
    listSources: (prefix, signal) =>
      expandSources([prefix], {
        metrics: metrics.storage,
        s3,
        signal,
        roots: config.SOURCE_ROOTS,
        check: (base) => assertAllowed(base, config),
      }),
    scratch: config.SCRATCH_DIR,
    context: {
      bufferMaxBytes: config.BUFFER_MAX_BYTES,
      scratchKeepBytes: config.SCRATCH_KEEP_BYTES,
      upload: { concurrency: config.UPLOAD_CONCURRENCY, maxAttempts: config.UPLOAD_MAX_ATTEMPTS },
      metrics,
    },
    log,
    onStart: (job) => announce({ type: 'job-started', job }),
    // In one message: a primary that knew of only one of the two would count the job twice, or never.
    onEnd: (job) => void snapshots.flush({ type: 'job-ended', job } satisfies ToPrimary),
  });

  // What a stage counted is pushed when the next one begins, so that a crash loses little.
  let stage = '';
  const stagePush = (entered: string) => {
    if (entered === stage) return;
    stage = entered;
    void snapshots.flush();
  };

  let ending: Promise<void> | undefined;
  const end = (): Promise<void> => {
    ending ??= (async () => {
      await consumer.drain();
      own.slot.stop();
      await Promise.all([snapshots.stop(), tracing?.stop()]);
      process.exit(0);
    })();
    return ending;
  };
  process.on('message', (message: unknown) => {
    if (!isToWorker(message)) return;
    if (message.type === 'abort') consumer.handBack();
    void end();
  });
  // node:cluster ends a worker at once when its primary is gone, unless that is expected.
  cluster.worker?.once('disconnect', () => {
    if (cluster.worker) cluster.worker.exitedAfterDisconnect = true;
  });
  process.on('disconnect', () => {
    log.warn({}, 'the primary is gone; handing jobs back');
    setTimeout(() => process.exit(1), ORPHAN_GRACE_MS).unref();
    consumer.handBack();
    void end();
  });
  await consumer.ready();
  announce({ type: 'ready' });
  log.info({ slot }, 'worker ready');
  if (slot === 0) await logEncoders(log);
}

async function assertAllowed(base: URL, { SOURCE_ROOTS }: Config): Promise<void> {
  if (SOURCE_ROOTS.length > 0) await assertInsideRoots(base, SOURCE_ROOTS, 'prefix');
}
