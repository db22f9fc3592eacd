import type { Registry } from 'prom-client';
import { catalogue } from './catalogue.ts';
import { gauge } from './define.ts';

/** What a worker holds in memory between reader and writers. */
export function createResourceMetrics(registry: Registry) {
  return { bufferUsage: gauge(registry, catalogue.bufferUsage) };
}
