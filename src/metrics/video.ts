import type { Registry } from 'prom-client';
import { catalogue } from './catalogue.ts';
import { counter, histogram } from './define.ts';

/** What the video encoder counts. */
export function createVideoMetrics(registry: Registry) {
  return {
    encodingDuration: histogram(registry, catalogue.videoEncodingDuration),
    framesEncoded: counter(registry, catalogue.videoFramesEncoded),
  };
}

export type VideoMetrics = ReturnType<typeof createVideoMetrics>;
