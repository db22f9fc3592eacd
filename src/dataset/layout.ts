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

/** The place that belongs to a video slot: slots are counted over chunks of `CHUNKS_SIZE`. */
export function slotPlace(slot: number): ChunkFile {
  return { chunk: Math.floor(slot / CHUNKS_SIZE), file: slot % CHUNKS_SIZE };
}

/** Path of the video of feature `key` under slot number `slot`. */
export function videoPath(key: string, slot: number): string {
  return `videos/${key}/${place(slotPlace(slot))}.mp4`;
}

/** The place after `at` (lerobot `update_chunk_file_indices`). */
export function nextPlace({ chunk, file }: ChunkFile): ChunkFile {
  return file === CHUNKS_SIZE - 1 ? { chunk: chunk + 1, file: 0 } : { chunk, file: file + 1 };
}

/** Path of an episode's manifest; `key` is letters, digits, `-`, `_`. */
export function manifestPath(key: string): string {
  return `${LEDGER_EPISODES_PREFIX}${key}.json`;
}

/** Path of a recording's staged table, kept until the dataset is finalized and for every later append. */
export function stagedPath(key: string): string {
  return `.roboflow/staged/${key}.parquet`;
}
