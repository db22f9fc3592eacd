import type { Registry } from 'prom-client';
import { catalogue } from './catalogue.ts';
import { counter, gauge, histogram } from './define.ts';

/** What the upload coordinator counts. */
export function createUploadMetrics(registry: Registry) {
  return {
    duration: histogram(registry, catalogue.uploadDuration),
    retries: counter(registry, catalogue.uploadRetries),
    bytes: counter(registry, catalogue.uploadBytes),
    pending: gauge(registry, catalogue.pendingUploads),
    inflightBytes: gauge(registry, catalogue.inflightBytes),
  };
}

export type UploadMetrics = ReturnType<typeof createUploadMetrics>;
