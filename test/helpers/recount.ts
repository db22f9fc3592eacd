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
    const camera = /^videos\/(?:.*\.)?([^./]+)\/chunk/.exec(inside)?.[1];
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
