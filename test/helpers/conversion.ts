import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { Registry } from 'prom-client';
import { datasetConfig } from '../../src/conversion/config.ts';
import { convertEpisode } from '../../src/conversion/convert.ts';
import { finalizeDataset } from '../../src/conversion/finalize.ts';
import type { ConversionContext, ConversionResult, FinalizeResult, Log } from '../../src/conversion/types.ts';
import { createMetrics, type Metrics } from '../../src/metrics/index.ts';
import { openStorage } from '../../src/storage/open.ts';

/** A log that keeps quiet. */
export const quiet: Log = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  child: () => quiet,
};

/** A folder that is removed when the test ends. */
export async function temporaryFolder(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'roboflow-test-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A conversion bench of its own: output folder, scratch, registry. */
export async function bench(t: ExecutionContext, overrides: Partial<ConversionContext> = {}) {
  const folder = await temporaryFolder(t);
  const registry = new Registry();
  const metrics: Metrics = createMetrics(registry);
  const output = join(folder, 'dataset');
  const context: ConversionContext = {
    output: openStorage(output, { metrics: metrics.storage, role: 'destination' }),
    scratch: join(folder, 'scratch', randomBytes(4).toString('hex')),
    bufferMaxBytes: 64 * 1024 * 1024,
    upload: { concurrency: 2, maxAttempts: 3 },
    metrics,
    log: quiet,
    signal: new AbortController().signal,
    ...overrides,
  };
  const convert = (source: string, config: object, key = 'episode', slot = 0): Promise<ConversionResult> =>
    convertEpisode({ source, config: datasetConfig.parse(config), key, slot, task: 'Pick it up.' }, context);
  const finalize = (config: object, keys: readonly string[]): Promise<FinalizeResult> =>
    finalizeDataset({ datasetId: 'test', runId: 'r0', config: datasetConfig.parse(config), keys }, context);
  return { folder, output, scratch: join(folder, 'scratch'), registry, metrics, context, convert, finalize };
}
