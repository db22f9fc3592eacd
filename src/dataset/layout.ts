import type { EpisodeManifest } from './types.ts';

/** Files per chunk folder of LeRobot v3.0; episodes per chunk folder of v2.1. */
export const CHUNKS_SIZE = 1000;
/** LeRobot's limits for one file, in MiB. */
export const DATA_FILES_SIZE_MB = 100;
export const VIDEO_FILES_SIZE_MB = 200;

/** Python `str.format` templates, written into `info.json` as they are. */
export const DATA_PATH = 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet';
export const VIDEO_PATH = 'videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4';

export const INFO_PATH = 'meta/info.json';
export const STATS_PATH = 'meta/stats.json';
export const TASKS_PATH = 'meta/tasks.parquet';

/** Manifests, one a recording; everything the service keeps beside a dataset lies under `.roboflow/`. */
const LEDGER_EPISODES_PREFIX = '.roboflow/episodes/';
export const STAGED_PREFIX = '.roboflow/staged/';
export const VIDEOS_PREFIX = 'videos/';

/** A file's place in a chunked folder. */
export type ChunkFile = { readonly chunk: number; readonly file: number };

const three = (value: number) => String(value).padStart(3, '0');
const place = ({ chunk, file }: ChunkFile) => `chunk-${three(chunk)}/file-${three(file)}`;

/** Path of a packed data file. */
export function dataPath(at: ChunkFile): string {
  return `data/${place(at)}.parquet`;
}

/** Path of a file of the episodes table. */
export function episodesPath(at: ChunkFile): string {
  return `meta/episodes/${place(at)}.parquet`;
}

/** Chunks between the videos of a recording that has one for every episode. */
const CHUNKS_APART = 1_000_000;

/**
 * The place that belongs to a video slot: slots are counted over chunks of `CHUNKS_SIZE`. Where every episode of the
 * recording has a video, `episode` is its number in there. `edition` is that of the manifest: one that is published
 * is never written over.
 */
export function slotPlace(slot: number, episode = 0, edition = 0): ChunkFile {
  return {
    chunk: episode * CHUNKS_APART + Math.floor(slot / CHUNKS_SIZE),
    file: edition * CHUNKS_SIZE + (slot % CHUNKS_SIZE),
  };
}

/** Path of the video of feature `key` at a place. */
export function placedVideoPath(key: string, at: ChunkFile): string {
  return `videos/${key}/${place(at)}.mp4`;
}

/** Path of the video of feature `key` under slot number `slot`. */
export function videoPath(key: string, slot: number, episode?: number, edition?: number): string {
  return placedVideoPath(key, slotPlace(slot, episode, edition));
}

/** The place after `at` (lerobot `update_chunk_file_indices`). */
export function nextPlace({ chunk, file }: ChunkFile): ChunkFile {
  return file === CHUNKS_SIZE - 1 ? { chunk: chunk + 1, file: 0 } : { chunk, file: file + 1 };
}

/** Path of an episode's manifest; `key` is letters, digits, `-`, `_`. */
export function manifestPath(key: string): string {
  return `${LEDGER_EPISODES_PREFIX}${key}.json`;
}

/** Name under which a recording's files wait in the ledger. */
const stagedName = (key: string, edition: number) => (edition === 0 ? key : `${key}.${edition}`);

/** Path of a recording's staged table, kept until the dataset is finalized and for every later append. */
export function stagedPath(key: string, edition = 0): string {
  return `${STAGED_PREFIX}${stagedName(key, edition)}.parquet`;
}

/** Templates, files and paths of LeRobot v2.1, which keeps every episode in files of its own. */
export const V21_DATA_PATH = 'data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet';
export const V21_VIDEO_PATH = 'videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4';
export const V21_EPISODES_PATH = 'meta/episodes.jsonl';
export const V21_TASKS_PATH = 'meta/tasks.jsonl';
export const V21_STATS_PATH = 'meta/episodes_stats.jsonl';

const v21Chunk = (episode: number) => `chunk-${three(Math.floor(episode / CHUNKS_SIZE))}`;
const v21Episode = (episode: number) => `episode_${String(episode).padStart(6, '0')}`;

/** Path of an episode's data in v2.1. */
export function v21DataPath(episode: number): string {
  return `data/${v21Chunk(episode)}/${v21Episode(episode)}.parquet`;
}

/** Path of an episode's video in v2.1: the chunk comes before the key. */
export function v21VideoPath(key: string, episode: number): string {
  return `videos/${v21Chunk(episode)}/${key}/${v21Episode(episode)}.mp4`;
}

/**
 * Where a conversion puts a video of recording `key`: in v3.0 at its final place, unless videos are joined; in v2.1,
 * where the place is the episode's number, in the ledger until the dataset is finalized.
 */
export function conversionVideoPath(
  dataset: { readonly format: 'v3.0' | 'v2.1'; readonly pack: boolean },
  video: { readonly feature: string; readonly episode?: number | undefined },
  { key, slot, edition = 0 }: { readonly key: string; readonly slot: number; readonly edition?: number },
): string {
  if (dataset.format === 'v3.0' && !dataset.pack) {
    return videoPath(video.feature, slot, video.episode, edition);
  }
  return `${STAGED_PREFIX}${stagedName(key, edition)}/${video.feature}/${video.episode ?? 0}.mp4`;
}

/** Whose file a path is: a recording's, by key or by slot, and of which edition. */
export type FileOwner = { readonly edition: number } & ({ readonly key: string } | { readonly slot: number });

/**
 * Whose file a path is, when a conversion put it there: by key in the ledger, by slot among the videos of a v3.0 dataset
 * whose videos are not joined (joined ones look the same). `undefined`: nobody's.
 */
export function ownerOfFile(path: string): FileOwner | undefined {
  const [, key, edition = '0'] =
    /^\.roboflow\/staged\/([A-Za-z0-9_-]+)(?:\.(\d+))?(?:\.parquet$|\/)/.exec(path) ?? [];
  if (key !== undefined) return { key, edition: Number(edition) };
  const [, chunk, file] = /^videos\/[^/]+\/chunk-(\d{3,})\/file-(\d{3,})\.mp4$/.exec(path) ?? [];
  if (chunk === undefined) return undefined;
  return {
    slot: (Number(chunk) % CHUNKS_APART) * CHUNKS_SIZE + (Number(file) % CHUNKS_SIZE),
    edition: Math.floor(Number(file) / CHUNKS_SIZE),
  };
}

/** Whether a path is one that finalize gives: a table or video of a chunk folder. Nothing else is ever taken away. */
export function isChunked(path: string): boolean {
  return /\/chunk-\d{3,}\/(?:[^/]+\/)?(?:file-\d{3,}|episode_\d{6,})\.(?:parquet|mp4)$/.test(path);
}

/** Whether a recording's videos wait to be joined with those of others; undefined where that is no question. */
export function joinsVideos({
  format = 'v3.0',
  files,
}: Pick<EpisodeManifest, 'format' | 'files'>): boolean | undefined {
  const video = files.find(({ type }) => type === 'video');
  return format === 'v3.0' && video ? isStaged(video.path) : undefined;
}

/** Whether a file waits in the ledger for the dataset to be finalized. */
export function isStaged(path: string): boolean {
  return path.startsWith(STAGED_PREFIX);
}
