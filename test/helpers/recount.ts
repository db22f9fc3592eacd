import { execFile } from 'node:child_process';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { asyncBufferFromFile, parquetMetadataAsync } from 'hyparquet';

const run = promisify(execFile);

/** Values of a Prometheus text by series, as written (`name{label="x"}`). */
export type Series = ReadonlyMap<string, number>;

/** Reads the samples of an exposition; comments are left out. */
export function parseSeries(text: string): Series {
  const series = new Map<string, number>();
  for (const line of text.split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    const at = line.lastIndexOf(' ');
    series.set(line.slice(0, at), Number(line.slice(at + 1)));
  }
  return series;
}

/** Names of the series that a scrape shows smaller than the one before: counters and histogram parts only. */
export function decreased(before: Series, after: Series): string[] {
  const falls: string[] = [];
  for (const [name, value] of before) {
    if (!/^[a-z_]+(_total|_bucket|_count|_sum)(\{|$)/.test(name) || /^(process|nodejs)_/.test(name)) continue;
    const now = after.get(name);
    if (now === undefined || now < value) falls.push(`${name}: ${value}, then ${now}`);
  }
  return falls;
}

/** Path of a published video: `videos/KEY/chunk-…` in v3.0, `videos/chunk-…/KEY/…` in v2.1. */
const VIDEO = /^videos\/(?:chunk-\d+\/)?(?:[^/]*\.)?(?<camera>[^./]+)\/(?:chunk-\d+\/|episode_)/;

/** What lies in a dataset's folder, counted with foreign tools. */
export async function recount(dataset: string) {
  const bytes = { parquet: 0, video: 0, meta: 0 };
  const frames = new Map<string, number>();
  let rows = 0;
  const entries = await readdir(dataset, { recursive: true, withFileTypes: true });
  for (const entry of entries) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    const inside = path.slice(dataset.length + 1);
    const { size } = await stat(path);
    if (path.endsWith('.parquet')) bytes.parquet += size;
    else if (path.endsWith('.mp4')) bytes.video += size;
    else bytes.meta += size;
    if (inside.startsWith('data/')) {
      rows += Number((await parquetMetadataAsync(await asyncBufferFromFile(path))).num_rows);
    }
    const camera = VIDEO.exec(inside)?.groups?.['camera'];
    if (camera) frames.set(camera, (frames.get(camera) ?? 0) + (await countFrames(path)));
  }
  return { bytes, frames, rows };
}

async function countFrames(path: string): Promise<number> {
  const wanted = 'stream=nb_read_frames';
  const args = `-v error -count_frames -select_streams v:0 -show_entries ${wanted} -of csv=p=0`.split(' ');
  const { stdout } = await run('ffprobe', [...args, path]);
  return Number(stdout.trim().replace(/,$/, ''));
}

/** Every file of a folder with its size and what changes when it is written anew. */
export async function filesOf(folder: string): Promise<Map<string, { size: number; version: string }>> {
  const files = new Map<string, { size: number; version: string }>();
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    const { size, ino, mtimeMs } = await stat(path);
    files.set(path, { size, version: `${ino} ${mtimeMs}` });
  }
  return files;
}
