import { throwIfUnread, toError } from '../errors.ts';
import type { CheckList } from './check-list.ts';
import { videoFaults } from './check-video.ts';
import { type Mp4Video, readMp4 } from './mp4.ts';
import { type DeclaredFeature, type DeclaredInfo, isDepth, isVideo } from './read-info.ts';
import { readAhead } from './read-ahead.ts';
import type { StatementId } from './statements.ts';
import type { DeclaredEpisode } from './verify-episodes.ts';
import type { DatasetFiles } from './types.ts';
import { fitsOneVideo } from './video-length.ts';

const FILES_AT_ONCE = 4;

/** Frames that the episodes expect of one video file. */
type Use = { readonly key: string; frames: number; episodes: number; longest: number };

/** Collects, episode by episode, which frames of which video they use. */
export class VideoUses {
  readonly #info: DeclaredInfo;
  readonly #list: CheckList<StatementId>;
  readonly uses = new Map<string, Use>();

  constructor(info: DeclaredInfo, list: CheckList<StatementId>) {
    this.#info = info;
    this.#list = list;
    if (info.features.some(isVideo)) list.examine('video-offsets');
  }

  /** Episodes follow each other in a file: from = frames before / fps, to = from + length / fps. */
  add(episode: DeclaredEpisode): void {
    const { fps } = this.#info;
    for (const { key, path, from, to } of episode.videos) {
      const use = this.uses.get(path) ?? { key, frames: 0, episodes: 0, longest: 0 };
      this.uses.set(path, use);
      const where = `episode ${episode.index} in ${path}`;
      const exact = Math.abs(from * fps - use.frames) < 1e-6;
      this.#list.expect(
        'video-offsets',
        exact,
        () => `${where}: from ${from} s, expected frame ${use.frames}`,
      );
      const end = Math.abs(to * fps - (use.frames + episode.length)) < 1e-6;
      this.#list.expect(
        'video-offsets',
        end,
        () => `${where}: to ${to} s, expected frame ${use.frames + episode.length}`,
      );
      use.frames += episode.length;
      use.episodes += 1;
      use.longest = Math.max(use.longest, episode.length);
    }
  }
}

/** Examines every video that an episode uses, from its index alone. */
export async function verifyVideos(
  files: DatasetFiles,
  info: DeclaredInfo,
  { uses }: VideoUses,
  list: CheckList<StatementId>,
): Promise<void> {
  const features = new Map(info.features.filter(isVideo).map((feature) => [feature.key, feature]));
  const ids: StatementId[] = [
    'video-times',
    'video-frames',
    'video-format',
    'video-access',
    'video-offsets',
    'video-length',
  ];
  if (features.size === 0) list.skip('there are no videos', ...ids, 'depth');
  else if (![...features.values()].some(isDepth)) list.skip('there are no depth videos', 'depth');
  if (uses.size === 0) return;
  list.examine(...ids);
  const read = readAhead(uses, FILES_AT_ONCE, async ([path, use]) => ({
    path,
    use,
    video: await openVideo(files, path),
  }));
  for await (const { path, use, video } of read) {
    const feature = features.get(use.key);
    if (video === undefined) list.fault('video-columns', `${path} is missing`);
    else if (typeof video === 'string') list.fault('video-frames', `${path}: ${video}`);
    else if (feature) examineVideo(path, use, video, feature, info.fps, list);
  }
}

async function openVideo(files: DatasetFiles, path: string): Promise<Mp4Video | string | undefined> {
  if ((await files.head(path)) === undefined) return undefined;
  const file = await files.open(path);
  try {
    return await readMp4(file);
  } catch (error) {
    throwIfUnread(error);
    return toError(error).message;
  } finally {
    await file.close();
  }
}

function examineVideo(
  path: string,
  use: Use,
  video: Mp4Video,
  feature: DeclaredFeature,
  fps: number,
  list: CheckList<StatementId>,
): void {
  const [height = 0, width = 0] = feature.shape;
  for (const fault of videoFaults(video, { fps, width, height }))
    list.fault('video-times', `${path}: ${fault}`);
  list.expect(
    'video-frames',
    video.frames === use.frames,
    () => `${path} holds ${video.frames} frames, its episodes have ${use.frames}`,
  );
  const found: Readonly<Record<string, unknown>> = {
    'video.codec': video.codec,
    'video.pix_fmt': video.pixFmt,
    'video.width': video.width,
    'video.height': video.height,
    'video.fps': fps,
  };
  for (const [name, value] of Object.entries(found)) {
    const declared = feature.info?.[name];
    const same = declared === undefined || value === undefined || declared === value;
    list.expect(
      'video-format',
      same,
      () => `${path}: ${name} is ${String(value)}, info.json says ${String(declared)}`,
    );
  }
  list.expect('video-format', video.tracks === 1, () => `${path} has ${video.tracks} tracks`);
  list.expect('video-access', video.faststart, () => `${path} has its index behind the data`);
  list.expect(
    'video-access',
    video.keyframeDistance <= fps,
    () => `${path} has ${video.keyframeDistance} pictures between keyframes`,
  );
  const seconds = video.frames / fps;
  const fine = fitsOneVideo({ episodes: use.episodes, seconds, longestSeconds: use.longest / fps });
  list.expect('video-length', fine, () => `${path} lasts ${seconds} s with ${use.episodes} episodes`);
  if (isDepth(feature)) examineDepth(path, video, feature, list);
}

function examineDepth(
  path: string,
  video: Mp4Video,
  { key, info }: DeclaredFeature,
  list: CheckList<StatementId>,
): void {
  const right = video.codec === 'hevc' && (video.pixFmt === undefined || video.pixFmt === 'gray12le');
  list.expect('depth', right, () => `${path} is ${video.codec} ${video.pixFmt}`);
  const numbers = ['video.depth_min', 'video.depth_max', 'video.shift'].map((name) => info?.[name]);
  const told =
    numbers.every((value) => typeof value === 'number') && typeof info?.['video.use_log'] === 'boolean';
  list.expect('depth', told, () => `${key} does not say how depth was quantized`);
  const unit = info?.['depth_unit'];
  list.expect('depth', unit === 'mm' || unit === 'm', () => `${key} has depth_unit ${String(unit)}`);
}
