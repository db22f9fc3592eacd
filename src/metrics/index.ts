import { collectDefaultMetrics, type Registry } from 'prom-client';
import { createConversionMetrics } from './conversion.ts';
import { createHttpMetrics } from './http.ts';
import { createJobMetrics } from './job.ts';
import { createBuildInfo, createPoolMetrics, createSlotMetrics, type BuildInfo } from './process.ts';
import { createResourceMetrics } from './resources.ts';
import { createStorageMetrics } from './storage.ts';
import { createUploadMetrics } from './upload.ts';
import { createVideoMetrics } from './video.ts';

/**
 * What work counts, on `registry`; call once per registry. Workers and the primary both have it: the primary counts
 * what it ends on behalf of the dead, and shows the metrics of an API-only pod.
 */
export function createMetrics(registry: Registry) {
  return {
    conversion: createConversionMetrics(registry),
    job: createJobMetrics(registry),
    storage: createStorageMetrics(registry),
    upload: createUploadMetrics(registry),
    video: createVideoMetrics(registry),
    resources: createResourceMetrics(registry),
  };
}

export type Metrics = ReturnType<typeof createMetrics>;

/** What a worker exposes about its own process, beside `createMetrics`. `slot` is 0…N-1 and re-used on re-fork. */
export function createWorkerMetrics(registry: Registry, slot: number) {
  return { slot: createSlotMetrics(registry, slot) };
}

/** Node's own metrics that are gauges named like counters, which `promtool check metrics` refuses. */
const MISNAMED = [
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
];

/**
 * What the primary alone exposes, beside `createMetrics`: the pool of workers, HTTP, the build, its own process.
 * Queue, Redis and scratch gauges come from `startQueuePolling`, those of the merge from `ClusterMetrics`.
 */
export function createPrimaryMetrics(registry: Registry, build: BuildInfo) {
  collectDefaultMetrics({ register: registry });
  for (const name of MISNAMED) registry.removeSingleMetric(name);
  createBuildInfo(registry, build);
  return { pool: createPoolMetrics(registry), http: createHttpMetrics(registry) };
}
