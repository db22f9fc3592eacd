import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { Registry } from 'prom-client';
import { configHash, datasetConfig } from '../../src/conversion/config.ts';
import type {
  ConversionContext,
  ConversionRequest,
  ConversionResult,
  FinalizeContext,
  FinalizeRequest,
  FinalizeResult,
  Log,
} from '../../src/conversion/types.ts';
import type { EpisodeManifest } from '../../src/dataset/types.ts';
import { asCanceled, InputError, StorageError } from '../../src/errors.ts';
import { createMetrics } from '../../src/metrics/index.ts';
import { Consumer, type ConsumerOptions } from '../../src/queue/consumer.ts';
import { Producer } from '../../src/queue/producer.ts';
import type { DatasetStatus } from '../../src/queue/shapes.ts';
import { UploadCoordinator } from '../../src/storage/coordinator.ts';
import { expandSources } from '../../src/storage/expand-sources.ts';
import { openStorage } from '../../src/storage/open.ts';
import { randomPrefix, removePrefix } from '../helpers/redis.ts';

/**
 * A batch without robots: a "recording" is a name that says what happens to it (`good-3.mcap`, `bad.mcap`,
 * `slow-2000.mcap`, `flaky-1.mcap`, `odd.mcap`), the conversion writes a real manifest through the real upload coordinator into a
 * real folder, finalize reads the manifests and writes `meta/info.json`. Redis, queue and processes are the real ones.
 */

export const config = datasetConfig.parse({
  fps: 10,
  features: { 'observation.state': { topic: '/joints', field: 'position' } },
});

export const silent: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => silent,
};

/** What is said of recordings that do not fit to the others. */
export const ODD = 'recordings of one dataset must agree on fps';

/** Rows of a recording by its name. */
export const ROWS = 7;

export class Rig {
  readonly url: string;
  readonly prefix: string;
  readonly folder: string;
  readonly producer: Producer;
  /** Sources in the order in which their conversions began. */
  readonly begun: string[] = [];
  readonly finalized: FinalizeRequest[] = [];
  readonly #consumers: Consumer[] = [];
  #twin: Rig | undefined;
  /** Failures of `flaky-N` still to come, by source. */
  readonly #flaky = new Map<string, number>();

  private constructor(url: string, prefix: string, folder: string, failFast = false) {
    this.url = url;
    this.prefix = prefix;
    this.folder = folder;
    const metrics = createMetrics(new Registry());
    this.producer = new Producer({
      // A busy machine may take longer than the product waits for Redis to answer.
      redis: failFast ? { url } : { url, commandTimeoutMs: 30_000 },
      prefix,
      log: silent,
      checkSource: (location) => {
        if (location.includes('forbidden'))
          throw new InputError(`expected a source below ${folder}, found ${location}`);
        if (location.includes('unreadable')) {
          const detail = `cannot list ${location}: permission denied (EACCES)`;
          throw new StorageError(detail, { retryable: false, reason: 'other' });
        }
        if (location.includes('store-away')) {
          const detail = `cannot list ${location}: connect ECONNREFUSED 192.0.2.1:443`;
          throw new StorageError(detail, { retryable: true, reason: 'network' });
        }
        return location.includes(':') ? location : pathToFileURL(join(folder, location)).href;
      },
      checkOutput: (location) =>
        location.includes(':') ? location : pathToFileURL(join(folder, location)).href,
      openOutput: (output) => openStorage(output, { metrics: metrics.storage, role: 'destination' }),
      checkPrefix: (location) =>
        location.includes(':') ? location : pathToFileURL(join(folder, location)).href,
      retryDelayMs: 50,
    });
  }

  static async open(t: ExecutionContext, url: string, { failFast = false } = {}): Promise<Rig> {
    const rig = new Rig(url, randomPrefix(), await mkdtemp(join(tmpdir(), 'roboflow-rig-')), failFast);
    t.teardown(async () => {
      await rig.#twin?.close();
      if (rig.#twin) await removePrefix(url, rig.#twin.prefix);
      await rig.close();
      await removePrefix(url, rig.prefix);
      await rm(rig.folder, { recursive: true, force: true });
    });
    await rig.#connected();
    return rig;
  }

  /** A rig of the same folder whose Redis knows nothing of this one; it ends with this one. */
  twin(prefix: string): Rig {
    this.#twin = new Rig(this.url, prefix, this.folder);
    return this.#twin;
  }

  /** The producer fails fast, as it should; a busy machine may take longer than that to connect it. */
  async #connected(): Promise<void> {
    const deadline = Date.now() + 30_000;
    for (;;) {
      try {
        await this.producer.redis();
        return;
      } catch (thrown) {
        if (!(thrown instanceof StorageError) || Date.now() > deadline) throw thrown;
      }
    }
  }

  /** Starts a worker with metrics of its own. */
  consumer(overrides: Partial<ConsumerOptions> = {}) {
    const registry = new Registry();
    const metrics = createMetrics(registry);
    const consumer = new Consumer({
      redis: { url: this.url },
      prefix: this.prefix,
      name: `test#${this.#consumers.length}`,
      lockDurationMs: 5000,
      stalledIntervalMs: 1000,
      defaultAttempts: 3,
      retryDelayMs: 50,
      openOutput: (output) => openStorage(output, { metrics: metrics.storage, role: 'destination' }),
      listSources: (pattern, signal) => expandSources([pattern], { metrics: metrics.storage, signal }),
      convert: (request, context) => this.convert(request, context),
      finalize: (request, context) => this.finalize(request, context),
      scratch: join(this.folder, 'scratch'),
      context: { bufferMaxBytes: 1 << 20, upload: { concurrency: 2, maxAttempts: 2 }, metrics },
      log: silent,
      ...overrides,
    });
    this.#consumers.push(consumer);
    return { consumer, registry, metrics };
  }

  async close(): Promise<void> {
    for (const consumer of this.#consumers) {
      consumer.handBack();
      await consumer.drain();
    }
    await this.producer.close();
  }

  /** Enqueues recordings by name into `output`. */
  async enqueue(
    datasetId: string,
    names: readonly string[],
    options: { output?: string; config?: typeof config } = {},
  ) {
    const answer = await this.producer.enqueueDataset({
      datasetId,
      output: options.output ?? `out-${datasetId}`,
      config: options.config ?? config,
      recordings: names.map((source) => ({ source })),
      options: { priority: 0 },
    });
    if ('refused' in answer) throw new Error(`refused: ${JSON.stringify(answer)}`);
    return answer;
  }

  /** Waits until the dataset is as wanted; fails with its last status after `timeoutMs`. */
  async until(
    datasetId: string,
    wanted: (status: DatasetStatus) => boolean,
    timeoutMs = 120_000,
  ): Promise<DatasetStatus> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const status = await this.producer.dataset(datasetId).catch((thrown: unknown) => {
        // Redis may be away on purpose.
        if (thrown instanceof StorageError) return undefined;
        throw thrown;
      });
      if (status && wanted(status)) return status;
      if (Date.now() > deadline) throw new Error(`not in time: ${JSON.stringify(status)}`);
      await sleep(20);
    }
  }

  /** Waits until the dataset has ended. */
  async ended(datasetId: string, timeoutMs?: number): Promise<DatasetStatus> {
    return await this.until(datasetId, (status) => status.finishedAt !== null, timeoutMs);
  }

  async convert(request: ConversionRequest, context: ConversionContext): Promise<ConversionResult> {
    const { signal, output } = context;
    const name = request.source.split('/').at(-1) ?? '';
    this.begun.push(name);
    const report = (stage: 'plan' | 'convert' | 'upload', fraction: number) =>
      context.onProgress?.({ stage, fraction, frames: Math.round(ROWS * fraction), expectedFrames: ROWS });
    report('plan', 0);
    if (name.startsWith('bad')) throw new InputError(`expected an MCAP recording, found text in ${name}`);
    const manifest = manifestOf(request);
    const bytes = new TextEncoder().encode(JSON.stringify(manifest));
    const path = `.roboflow/episodes/${request.key}.json`;
    const uploads = new UploadCoordinator({
      storage: output,
      ...context.upload,
      metrics: context.metrics,
      signal,
    });
    const before = await output.head(path, { signal });
    if (before?.size === bytes.length) return { outcome: 'skipped', manifest, upload: uploads.stats() };
    report('convert', 0.1);
    const wait = /^slow-(\d+)/.exec(name)?.[1];
    if (wait) {
      await sleep(Number(wait), undefined, { signal }).catch(() => undefined);
      if (signal.aborted) throw asCanceled(signal.reason);
    }
    this.#flake(name);
    report('upload', 0.9);
    await uploads.publish({ key: path, type: 'meta', body: { bytes } });
    await uploads.close();
    return { outcome: 'completed', manifest, upload: uploads.stats() };
  }

  async finalize(request: FinalizeRequest, context: FinalizeContext): Promise<FinalizeResult> {
    this.finalized.push(request);
    const { signal, output, upload, metrics } = context;
    for (const key of request.keys) {
      if (!(await output.head(`.roboflow/episodes/${key}.json`, { signal })))
        throw new Error(`no manifest ${key}`);
    }
    const misfits = request.keys.filter((key) => key.startsWith('odd')).map((key) => ({ key, reason: ODD }));
    const episodes = request.keys.length - misfits.length;
    const frames = episodes * ROWS;
    const text = JSON.stringify({ episodes, frames, keys: request.keys });
    const uploads = new UploadCoordinator({ storage: output, ...upload, metrics, signal });
    await uploads.publish({
      key: 'meta/info.json',
      type: 'meta',
      body: { bytes: new TextEncoder().encode(text) },
    });
    await uploads.close();
    return { episodes, frames, tasks: 1, misfits };
  }

  #flake(name: string): void {
    const times = /^flaky-(\d+)/.exec(name)?.[1];
    if (!times) return;
    const left = this.#flaky.get(name) ?? Number(times);
    this.#flaky.set(name, left - 1);
    if (left > 0) {
      throw new StorageError('expected s3://user:secret@host to answer, found a reset connection', {
        retryable: true,
        reason: 'network',
      });
    }
  }
}

/** Counts of `roboflow_episodes_processed_total` by status. */
export async function outcomes(...registries: Registry[]): Promise<Record<string, number>> {
  const sums: Record<string, number> = {};
  for (const registry of registries) {
    const metric = await registry.getSingleMetric('roboflow_episodes_processed_total')?.get();
    for (const { labels, value } of metric?.values ?? []) {
      const status = String(labels['status']);
      sums[status] = (sums[status] ?? 0) + value;
    }
  }
  return sums;
}

/** Sum of a counter, or of the observations of a histogram, over registries. */
export async function total(name: string, ...registries: Registry[]): Promise<number> {
  let sum = 0;
  for (const registry of registries) {
    const metric = (await registry.getMetricsAsJSON()).find((one) => one.name === name);
    for (const value of (metric?.values ?? []) as { value: number; metricName?: string }[]) {
      if (value.metricName === undefined || value.metricName === `${name}_count`) sum += value.value;
    }
  }
  return sum;
}

/** A manifest of `ROWS` rows. */
export function manifestOf(request: ConversionRequest): EpisodeManifest {
  return {
    version: 1,
    key: request.key,
    slot: request.slot,
    source: { url: request.source, size: 1, etag: 'etag' },
    configHash: configHash(request.config),
    converter: { version: 'test', encoder: null },
    fps: 10,
    robotType: null,
    features: [],
    videoInfo: {},
    episodes: [
      {
        frames: ROWS,
        tasks: [request.task ?? 'do'],
        firstFrame: 0,
        startTime: '0',
        endTime: '1',
        stats: {},
        histograms: {},
      },
    ],
    files: [],
    alignment: { rows: ROWS, droppedRows: 0, derivedRows: 0, outsideRows: 0, sources: [] },
    losses: [],
  };
}
