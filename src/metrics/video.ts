import type { Registry } from 'prom-client';
import { catalogue } from './catalogue.ts';
import { counter, histogram } from './define.ts';

/** The videos of one published conversion; `EpisodeManifest` fits by shape. */
export type PublishedVideos = {
  readonly files: readonly { readonly type: string; readonly feature?: string; readonly frames: number }[];
  readonly copies?: Readonly<Record<string, { readonly copied: boolean }>>;
};

/** What is counted of videos: encoders as they end, their frames once the video is published. */
export function createVideoMetrics(registry: Registry) {
  const framesEncoded = counter(registry, catalogue.videoFramesEncoded);
  return {
    encodingDuration: histogram(registry, catalogue.videoEncodingDuration),
    framesEncoded,

    /** Makes a camera visible at 0 when its encoder starts, so that no increase is missed. */
    expectCamera(featureKey: string): void {
      framesEncoded.inc({ camera: cameraLabel(featureKey) }, 0);
    },

    /** Adds the frames of published videos, those of cameras left out that were copied without an encoder. */
    countFrames({ files, copies = {} }: PublishedVideos): void {
      for (const { type, feature = '', frames } of files) {
        if (type !== 'video' || copies[feature]?.copied === true) continue;
        framesEncoded.inc({ camera: cameraLabel(feature) }, frames);
      }
    },
  };
}

export type VideoMetrics = ReturnType<typeof createVideoMetrics>;

/** The `camera` label of a feature: the last part of its key (`observation.images.cam_high` → `cam_high`). */
function cameraLabel(featureKey: string): string {
  return featureKey.slice(featureKey.lastIndexOf('.') + 1);
}
