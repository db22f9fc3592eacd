import { z } from 'zod';
import { DEFAULT_FEATURES } from './columns.ts';
import type { CheckList } from './check-list.ts';
import { CHUNKS_SIZE, DATA_PATH, V21_DATA_PATH, V21_VIDEO_PATH, VIDEO_PATH } from './layout.ts';
import type { StatementId } from './statements.ts';

const count = z.int().min(0);

const feature = z.looseObject({
  dtype: z.string(),
  shape: z.array(z.int().positive()).min(1),
  names: z.unknown(),
  info: z.record(z.string(), z.unknown()).nullish(),
});

const info = z.looseObject({
  codebase_version: z.literal('v3.0'),
  fps: z.int().positive(),
  features: z.record(z.string(), feature),
  total_episodes: count,
  total_frames: count,
  total_tasks: count,
  chunks_size: z.int().positive(),
  data_files_size_in_mb: z.number().positive(),
  video_files_size_in_mb: z.number().positive(),
  data_path: z.string(),
  video_path: z.string().nullable(),
  robot_type: z.string().nullable(),
  splits: z.record(z.string(), z.string()),
});

const v21Info = z.looseObject({
  codebase_version: z.literal('v2.1'),
  fps: z.int().positive(),
  features: z.record(z.string(), feature),
  total_episodes: count,
  total_frames: count,
  total_tasks: count,
  total_videos: count,
  total_chunks: count,
  chunks_size: z.literal(CHUNKS_SIZE),
  data_path: z.literal(V21_DATA_PATH),
  video_path: z.literal(V21_VIDEO_PATH).nullable(),
  robot_type: z.string().nullable(),
  splits: z.record(z.string(), z.string()),
});

/** One feature as a dataset declares it. */
export type DeclaredFeature = z.output<typeof feature> & { readonly key: string };

/** `info.json` as far as readers depend on it. */
export type DeclaredInfo = {
  readonly fps: number;
  readonly features: readonly DeclaredFeature[];
  readonly episodes: number;
  readonly frames: number;
  readonly tasks: number;
  readonly chunksSize: number;
};

export const isVideo = (each: DeclaredFeature) => each.dtype === 'video';
export const isPicture = (each: DeclaredFeature) => each.dtype === 'video' || each.dtype === 'image';
export const isDepth = (each: DeclaredFeature) => each.info?.['is_depth_map'] === true;
/** Features with statistics. */
export const hasStats = (each: DeclaredFeature) => each.dtype !== 'string' && each.dtype !== 'language';

/** The format version that `info.json` names; undefined when it names none. */
export function declaredVersion(bytes: Uint8Array): string | undefined {
  const value = parseJson(bytes);
  const version = (value as { codebase_version?: unknown } | null | undefined)?.codebase_version;
  return typeof version === 'string' ? version : undefined;
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    // Reported as "not JSON" by whoever needed it.
    return undefined;
  }
}

/** Examines the `info.json` of v2.1; undefined when it is too damaged to examine anything else. */
export function readV21Info(bytes: Uint8Array, list: CheckList<StatementId>): DeclaredInfo | undefined {
  const parsed = v21Info.safeParse(parseJson(bytes));
  if (!parsed.success) {
    for (const issue of parsed.error.issues)
      list.fault('info-keys', `${issue.path.join('.')}: ${issue.message}`);
    return undefined;
  }
  list.examine('info-keys', 'splits');
  const { data } = parsed;
  const features = Object.entries(data.features).map(([key, each]) => ({ ...each, key }));
  const videos = features.filter(isVideo).length;
  const chunks = Math.ceil(data.total_episodes / CHUNKS_SIZE);
  const { splits } = data;
  const train = `0:${data.total_episodes}`;
  list.expect(
    'splits',
    splits['train'] === train,
    () => `splits.train is "${splits['train']}", expected "${train}"`,
  );
  list.expect(
    'splits',
    (data.video_path === null) === (videos === 0),
    () => `video_path is ${data.video_path}`,
  );
  const right = data.total_videos === data.total_episodes * videos && data.total_chunks === chunks;
  list.expect(
    'totals',
    right,
    () =>
      `${data.total_videos} videos in ${data.total_chunks} chunks do not fit ${data.total_episodes} episodes`,
  );
  checkFeatures(features, list);
  return declared(data, features);
}

function declared(
  data: {
    fps: number;
    total_episodes: number;
    total_frames: number;
    total_tasks: number;
    chunks_size: number;
  },
  features: readonly DeclaredFeature[],
): DeclaredInfo {
  return {
    fps: data.fps,
    features,
    episodes: data.total_episodes,
    frames: data.total_frames,
    tasks: data.total_tasks,
    chunksSize: data.chunks_size,
  };
}

/** Examines `info.json`; undefined when it is too damaged to examine anything else. */
export function readInfo(bytes: Uint8Array, list: CheckList<StatementId>): DeclaredInfo | undefined {
  const value = parseJson(bytes);
  if (value === undefined) {
    list.fault('info-keys', 'meta/info.json is not JSON');
    return undefined;
  }
  const parsed = info.safeParse(value);
  if (!parsed.success) {
    for (const issue of parsed.error.issues)
      list.fault('info-keys', `${issue.path.join('.')}: ${issue.message}`);
    return undefined;
  }
  list.examine('info-keys');
  const { data } = parsed;
  const features = Object.entries(data.features).map(([key, each]) => ({ ...each, key }));
  const train = `0:${data.total_episodes}`;
  const { splits } = data;
  list.expect(
    'splits',
    splits['train'] === train,
    () => `splits.train is "${splits['train']}", expected "${train}"`,
  );
  list.expect('splits', data.data_path === DATA_PATH, () => `data_path is "${data.data_path}"`);
  const videoPath = features.some(isVideo) ? VIDEO_PATH : null;
  list.expect(
    'splits',
    data.video_path === videoPath,
    () => `video_path is ${JSON.stringify(data.video_path)}`,
  );
  list.expect(
    'splits',
    data.chunks_size <= CHUNKS_SIZE,
    () => `chunks_size ${data.chunks_size} breaks the order of files`,
  );
  checkFeatures(features, list);
  return declared(data, features);
}

function checkFeatures(features: readonly DeclaredFeature[], list: CheckList<StatementId>): void {
  const byKey = new Map(features.map((each) => [each.key, each]));
  for (const { key, dtype, shape } of DEFAULT_FEATURES) {
    const own = byKey.get(key);
    const exact =
      own?.dtype === dtype && JSON.stringify(own.shape) === JSON.stringify(shape) && own.names === null;
    list.expect(
      'features',
      exact,
      () => `${key} is ${JSON.stringify(own) ?? 'missing'}, expected ${dtype} [1]`,
    );
  }
  list.examine('cameras');
  for (const each of features) {
    const { key, shape, names } = each;
    list.expect('features', !key.includes('/'), () => `"${key}" contains "/"`);
    list.expect('features', 'names' in each, () => `${key} has no names`);
    if (!isPicture(each)) {
      list.expect(
        'cameras',
        !key.includes('image'),
        () => `"${key}" is no camera, yet its name contains "image"`,
      );
      const named = names === null || !Array.isArray(names) || shape.length > 1 || names.length === shape[0];
      list.expect(
        'features',
        named,
        () => `${key} has ${(names as unknown[]).length} names for ${shape[0]} elements`,
      );
      continue;
    }
    const channels = isDepth(each) ? 1 : 3;
    list.expect(
      'cameras',
      shape.length === 3 && shape[2] === channels,
      () => `${key} has shape [${shape.join(', ')}]`,
    );
    const expected = JSON.stringify(['height', 'width', 'channels']);
    list.expect(
      'cameras',
      JSON.stringify(names) === expected,
      () => `${key} has names ${JSON.stringify(names)}`,
    );
  }
}
