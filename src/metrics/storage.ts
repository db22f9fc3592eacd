import type { Registry } from 'prom-client';
import { catalogue } from './catalogue.ts';
import { counter } from './define.ts';

/** What storage operations count. Known label sets start at 0. */
export function createStorageMetrics(registry: Registry) {
  const metrics = {
    bytesRead: counter(registry, catalogue.bytesRead),
    bytesWritten: counter(registry, catalogue.bytesWritten),
    cacheHit: counter(registry, catalogue.cacheHit),
    cacheMiss: counter(registry, catalogue.cacheMiss),
  };
  for (const store of ['file', 's3']) {
    metrics.bytesRead.inc({ source: store }, 0);
    for (const type of ['parquet', 'video', 'meta'])
      metrics.bytesWritten.inc({ destination: store, type }, 0);
  }
  return metrics;
}

export type StorageMetrics = ReturnType<typeof createStorageMetrics>;
