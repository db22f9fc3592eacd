import type { Registry } from 'prom-client';
import { catalogue } from './catalogue.ts';
import { counter, gauge, histogram } from './define.ts';

/** What the upload coordinator counts. Known label sets start at 0. */
export function createUploadMetrics(registry: Registry) {
  const metrics = {
    duration: histogram(registry, catalogue.uploadDuration),
    retries: counter(registry, catalogue.uploadRetries),
    bytes: counter(registry, catalogue.uploadBytes),
    pending: gauge(registry, catalogue.pendingUploads),
  };
  for (const reason of ['timeout', 'throttled', 'network', 'server_error', 'checksum', 'other']) {
    metrics.retries.inc({ reason }, 0);
  }
  for (const type of ['parquet', 'video', 'meta']) metrics.duration.zero({ file_type: type });
  return metrics;
}

export type UploadMetrics = ReturnType<typeof createUploadMetrics>;
