import type { Registry } from 'prom-client';
import { catalogue } from './catalogue.ts';
import { counter, histogram } from './define.ts';

/** What the video encoder counts. Zero a camera with `framesEncoded.inc({ camera }, 0)` when its encoder starts. */
export function createVideoMetrics(registry: Registry) {
  return {
    encodingDuration: histogram(registry, catalogue.videoEncodingDuration),
    framesEncoded: counter(registry, catalogue.videoFramesEncoded),
  };
}

export type VideoMetrics = ReturnType<typeof createVideoMetrics>;

/** The `camera` label of a feature: the last part of its key (`observation.images.cam_high` → `cam_high`). */
export function cameraLabel(featureKey: string): string {
  return featureKey.slice(featureKey.lastIndexOf('.') + 1);
}
