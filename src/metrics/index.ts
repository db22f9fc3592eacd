import type { Registry } from 'prom-client';
import { createConversionMetrics } from './conversion.ts';
import { createResourceMetrics } from './resources.ts';
import { createStorageMetrics } from './storage.ts';
import { createUploadMetrics } from './upload.ts';
import { createVideoMetrics } from './video.ts';

/** Creates every metric of a worker on `registry`; call once per registry. */
export function createMetrics(registry: Registry) {
  return {
    conversion: createConversionMetrics(registry),
    storage: createStorageMetrics(registry),
    upload: createUploadMetrics(registry),
    video: createVideoMetrics(registry),
    resources: createResourceMetrics(registry),
  };
}

export type Metrics = ReturnType<typeof createMetrics>;
