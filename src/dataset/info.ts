import type { Feature } from '../frame/types.ts';
import { DEFAULT_FEATURES, isCamera } from './columns.ts';
import { DEPTH } from './depth.ts';
import { CHUNKS_SIZE, DATA_FILES_SIZE_MB, DATA_PATH, VIDEO_FILES_SIZE_MB, VIDEO_PATH } from './layout.ts';
import type { Mp4Video } from './mp4.ts';
import type { VideoSettings } from './types.ts';

/** `info` of one feature. */
export type VideoInfo = Readonly<Record<string, unknown>>;

/** What `info.json` says about a feature. */
export type FeatureInfo = {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly names: readonly string[] | null;
  readonly info?: VideoInfo;
};

/** `meta/info.json` of LeRobot v3.0. */
export type DatasetInfo = {
  readonly codebase_version: string;
  readonly fps: number;
  readonly features: Readonly<Record<string, FeatureInfo>>;
  readonly total_episodes: number;
  readonly total_frames: number;
  readonly total_tasks: number;
  readonly chunks_size: number;
  readonly data_files_size_in_mb: number;
  readonly video_files_size_in_mb: number;
  readonly data_path: string;
  readonly video_path: string | null;
  readonly robot_type: string | null;
  readonly splits: Readonly<Record<string, string>>;
};

const CAMERA_NAMES = ['height', 'width', 'channels'];

/** The `info` of a video feature as far as the stream itself tells it (lerobot `get_video_info`). */
export function streamInfo(video: Mp4Video, fps: number, settings: VideoSettings): VideoInfo {
  return {
    'video.height': video.height,
    'video.width': video.width,
    'video.codec': video.codec,
    'video.pix_fmt': video.pixFmt ?? settings.pixFmt,
    'video.fps': fps,
    'video.channels': (video.pixFmt ?? settings.pixFmt).startsWith('gray') ? 1 : 3,
    has_audio: false,
    is_depth_map: false,
  };
}

/**
 * The `info` of a video feature that was encoded here (lerobot `VideoEncoderConfig`), from the video that was written.
 * `video_backend` and `extra_options` keep lerobot's defaults: it rebuilds an encoder from them and refuses others.
 */
export function videoInfo(video: Mp4Video, fps: number, settings: VideoSettings): VideoInfo {
  const { is_depth_map: isDepth, ...stream } = streamInfo(video, fps, settings);
  return {
    ...stream,
    'video.g': settings.gop,
    'video.crf': settings.crf,
    'video.preset': settings.preset,
    'video.fast_decode': 0,
    'video.video_backend': 'pyav',
    'video.extra_options': {},
    is_depth_map: isDepth,
  };
}

/** The `info` of a depth video: how to turn its codes into depths again (lerobot `DepthEncoderConfig`). */
export function depthInfo(
  video: Mp4Video,
  fps: number,
  settings: VideoSettings,
  unit: 'mm' | 'm',
): VideoInfo {
  const { 'video.preset': _, ...info } = videoInfo(video, fps, settings);
  return {
    ...info,
    'video.extra_options': { 'x265-params': 'lossless=1' },
    is_depth_map: true,
    'video.depth_min': DEPTH.min,
    'video.depth_max': DEPTH.max,
    'video.shift': DEPTH.shift,
    'video.use_log': DEPTH.useLog,
    depth_unit: unit,
  };
}

/** The `info` of depth pictures in the data column; undefined for everything else. */
function depthImageInfo({ dtype, camera }: Feature): VideoInfo | undefined {
  if (dtype !== 'image' || camera?.depthUnit === undefined) return undefined;
  return { is_depth_map: true, depth_unit: camera.depthUnit };
}

/** The features of `info.json`: the user's in their order, then the default ones. */
export function featureInfos(
  features: readonly Feature[],
  videoInfos: Readonly<Record<string, VideoInfo>>,
): Record<string, FeatureInfo> {
  const described = [...features, ...DEFAULT_FEATURES].map((feature): [string, FeatureInfo] => {
    const { key, dtype, shape } = feature;
    const names = isCamera(feature) ? CAMERA_NAMES : feature.names;
    const info = videoInfos[key] ?? depthImageInfo(feature);
    return [key, { dtype, shape, names, ...(info ? { info } : {}) }];
  });
  return Object.fromEntries(described);
}

/** Builds `info.json` of a finished v3.0 dataset. */
export function datasetInfo(input: {
  readonly fps: number;
  readonly robotType: string | null;
  readonly features: readonly Feature[];
  readonly videoInfos: Readonly<Record<string, VideoInfo>>;
  readonly episodes: number;
  readonly frames: number;
  readonly tasks: number;
}): DatasetInfo {
  return {
    codebase_version: 'v3.0',
    fps: input.fps,
    features: featureInfos(input.features, input.videoInfos),
    total_episodes: input.episodes,
    total_frames: input.frames,
    total_tasks: input.tasks,
    chunks_size: CHUNKS_SIZE,
    data_files_size_in_mb: DATA_FILES_SIZE_MB,
    video_files_size_in_mb: VIDEO_FILES_SIZE_MB,
    data_path: DATA_PATH,
    video_path: input.features.some((feature) => feature.dtype === 'video') ? VIDEO_PATH : null,
    robot_type: input.robotType,
    splits: { train: `0:${input.episodes}` },
  };
}
