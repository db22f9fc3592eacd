import { execFile } from 'node:child_process';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import sharp from 'sharp';
import type { OverlayOptions } from 'sharp';

/**
 * A picture of a whole dataset: for every episode a strip of frames per camera, taken from the dataset's own videos, and
 * below it the curves of state and action from its rows, on the same time axis. What does not fit together shows.
 */

const columns = 9;
const tile = { width: 160, height: 120, gap: 4 };
const margin = { left: 96, top: 12, title: 26, curves: 92 };
const palette = ['#1d70b8', '#d4651a', '#2a9d8f', '#8f3f97', '#b8860b', '#c2185b'];

type Info = {
  readonly fps: number;
  readonly data_path: string;
  readonly video_path: string;
  readonly features: Readonly<
    Record<string, { readonly dtype: string; readonly names?: readonly string[] | null }>
  >;
};

/** One row of `meta/episodes`, with the columns `videos/<key>/…` beside. */
type EpisodeRow = Readonly<Record<string, unknown>> & {
  readonly episode_index: bigint;
  readonly length: bigint;
  readonly tasks: readonly string[];
};

/** Draws the LeRobot v3.0 dataset in the folder `dataset` into the PNG file `target`. */
export async function drawContactSheet(dataset: string, target: string): Promise<void> {
  const info = JSON.parse(await readFile(join(dataset, 'meta', 'info.json'), 'utf8')) as Info;
  const cameras = Object.keys(info.features).filter((key) => info.features[key]?.dtype === 'video');
  const episodes = (await readTables(join(dataset, 'meta', 'episodes'))) as EpisodeRow[];
  const rows = await readTables(join(dataset, 'data'));

  const blockHeight = margin.title + cameras.length * (tile.height + tile.gap) + margin.curves + margin.top;
  const width = margin.left + columns * (tile.width + tile.gap) + margin.top;
  const layers: OverlayOptions[] = [];
  for (const [index, episode] of episodes.entries()) {
    const top = margin.top + index * blockHeight;
    const picks = chosenFrames(Number(episode.length));
    for (const [line, camera] of cameras.entries()) {
      const y = top + margin.title + line * (tile.height + tile.gap);
      const frames = await videoFrames(dataset, info, episode, camera, picks);
      frames.forEach((input, column) => {
        layers.push({ input, left: margin.left + column * (tile.width + tile.gap), top: y });
      });
    }
    const own = rows.filter((row) => row['episode_index'] === episode.episode_index);
    layers.push({ input: Buffer.from(annotations(info, episode, cameras, picks, own)), left: 0, top });
  }
  const height = margin.top + episodes.length * blockHeight;
  await sharp({ create: { width, height, channels: 3, background: '#ffffff' } })
    .composite(layers)
    .png({ compressionLevel: 9, palette: true })
    .toFile(target);
}

/** Frame numbers spread evenly over an episode, the first and the last included. */
function chosenFrames(length: number): number[] {
  return Array.from({ length: columns }, (_, column) => Math.round((column * (length - 1)) / (columns - 1)));
}

async function readTables(folder: string): Promise<Record<string, unknown>[]> {
  const entries = await readdir(folder, { recursive: true });
  const tables: Record<string, unknown>[] = [];
  for (const name of entries.filter((entry) => entry.endsWith('.parquet')).toSorted()) {
    const file = await asyncBufferFromFile(join(folder, name));
    for (const row of await parquetReadObjects({ file, compressors })) tables.push(row);
  }
  return tables;
}

/** The pictures of `camera` at the episode's frames `picks`, as PNG, by their number in the mp4. */
async function videoFrames(
  dataset: string,
  info: Info,
  episode: EpisodeRow,
  camera: string,
  picks: readonly number[],
): Promise<Buffer[]> {
  const column = (name: string) => Number(episode[`videos/${camera}/${name}`]);
  const path = join(
    dataset,
    info.video_path
      .replace('{video_key}', camera)
      .replace('{chunk_index:03d}', String(column('chunk_index')).padStart(3, '0'))
      .replace('{file_index:03d}', String(column('file_index')).padStart(3, '0')),
  );
  const first = Math.round(column('from_timestamp') * info.fps);
  const chosen = [...new Set(picks)];
  const select = chosen.map((pick) => `eq(n\\,${first + pick})`).join('+');
  // Numbered anew, the chosen frames pass any frame rate logic of the output one for one.
  const filter = `select=${select},setpts=N/FR/TB,scale=${tile.width}:${tile.height}`;
  const options = ['-v', 'error', '-nostdin', '-i', `file:${path}`, '-vf', filter];
  const { stdout } = await promisify(execFile)(
    'ffmpeg',
    [...options, '-f', 'rawvideo', '-pix_fmt', 'rgb24', 'pipe:1'],
    { encoding: 'buffer', maxBuffer: 64 * 1024 * 1024 },
  );
  const frameBytes = tile.width * tile.height * 3;
  if (stdout.length !== chosen.length * frameBytes) {
    throw new Error(`${path}: expected ${chosen.length} frames, found ${stdout.length / frameBytes}`);
  }
  return Promise.all(
    picks.map((pick) => {
      const start = chosen.indexOf(pick) * frameBytes;
      const raw = { width: tile.width, height: tile.height, channels: 3 } as const;
      return sharp(stdout.subarray(start, start + frameBytes), { raw })
        .png()
        .toBuffer();
    }),
  );
}

/** Title, camera names, time marks and curves of one episode, as SVG over the whole block. */
function annotations(
  info: Info,
  episode: EpisodeRow,
  cameras: readonly string[],
  picks: readonly number[],
  rows: readonly Record<string, unknown>[],
): string {
  const width = margin.left + columns * (tile.width + tile.gap);
  const length = Number(episode.length);
  const text = (x: number, y: number, words: string, style = '') =>
    `<text x="${x}" y="${y}" ${style}>${words.replaceAll('&', '&amp;').replaceAll('<', '&lt;')}</text>`;
  const seconds = (length / info.fps).toFixed(1);
  const title = `episode ${episode.episode_index} — ${episode.tasks.join('; ')} — ${length} rows, ${seconds} s`;
  const labels = cameras.map((camera, line) =>
    text(4, margin.title + line * (tile.height + tile.gap) + tile.height / 2, camera.split('.').at(-1) ?? ''),
  );
  const curvesTop = margin.title + cameras.length * (tile.height + tile.gap) + 16;
  const x = (frame: number) => {
    const span = (columns - 1) * (tile.width + tile.gap);
    return (margin.left + tile.width / 2 + (frame / Math.max(length - 1, 1)) * span).toFixed(1);
  };
  const marks = picks.map(
    (pick) =>
      `<path d="M${x(pick)},${curvesTop}v60" stroke="#ccc"/>${text(Number(x(pick)) - 14, curvesTop + 72, `${(pick / info.fps).toFixed(2)} s`, 'font-size="10" fill="#666"')}`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${curvesTop + 76}" font-family="sans-serif" font-size="13" fill="#222">${[
    text(4, 17, title, 'font-weight="bold"'),
    ...labels,
    ...marks,
    ...curves(info, rows, x, curvesTop),
  ].join('')}</svg>`;
}

/** State as lines, action as dashes in the colour of its joint, both scaled to the range of the two together. */
function curves(
  info: Info,
  rows: readonly Record<string, unknown>[],
  x: (frame: number) => string,
  top: number,
): string[] {
  const features = ['observation.state', 'action'].filter((key) => key in info.features);
  const vectors = features.map((key) => rows.map((row) => Array.from(row[key] as ArrayLike<number>)));
  const all = vectors.flat(2);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const y = (value: number) => (top + 58 - ((value - low) / (high - low || 1)) * 56).toFixed(1);
  const lines = vectors.flatMap((series, which) =>
    (series[0] ?? []).map((_, joint) => {
      const points = series.map((vector, frame) => `${x(frame)},${y(vector[joint] ?? 0)}`).join('L');
      const dash = which === 0 ? '' : 'stroke-dasharray="3 3"';
      return `<path d="M${points}" fill="none" stroke="${palette[joint % palette.length]}" stroke-width="1.6" ${dash}/>`;
    }),
  );
  const names = info.features[features[0] ?? '']?.names ?? [];
  const legend = names.map(
    (name, joint) =>
      `<text x="4" y="${top + 10 + joint * 15}" fill="${palette[joint % palette.length]}" font-size="12">${name}</text>`,
  );
  const key = `<text x="4" y="${top + 72}" font-size="10" fill="#666">line: state, dashes: action</text>`;
  return [...lines, ...legend, ...(features.length === 2 ? [key] : [])];
}
