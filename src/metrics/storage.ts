import type { Registry } from 'prom-client';
import { catalogue } from './catalogue.ts';
import { counter } from './define.ts';

/** What storage operations count. */
export function createStorageMetrics(registry: Registry) {
  return {
    bytesRead: counter(registry, catalogue.bytesRead),
    bytesWritten: counter(registry, catalogue.bytesWritten),
    cacheHit: counter(registry, catalogue.cacheHit),
    cacheMiss: counter(registry, catalogue.cacheMiss),
  };
}

export type StorageMetrics = ReturnType<typeof createStorageMetrics>;
