// Wall and CPU of a conversion against the bare ffmpeg commands over the same JPEGs with the same settings.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { encoderArguments } from '../../src/dataset/encoder-options.ts';
import { writeLongRecording } from '../helpers/long-recording.ts';
import { noisyJpeg } from '../helpers/noisy-jpeg.ts';
import { type ConversionCost, convertInChild } from './conversion-child.ts';
import { median, ratios, rounded } from './measure.ts';
import { RunningWorker } from './running-worker.ts';

const CAMERAS = ['cam_left', 'cam_right', 'cam_wrist'];
const FPS = 30;

/** The program `roboflow convert` against the bare encoders: ratios, medians of interleaved runs. */
export type ConvertBench = {
  readonly what: string;
  readonly runs: number;
  /** Seconds of the reference. */
  readonly reference: number;
  readonly wall: number;
  readonly cpu: number;
  readonly goalWall: number;
  readonly goalCpu: number;
};

/** How much is converted, and how often. */
export type ConvertSize = {
  readonly runs: number;
  readonly frames: number;
  readonly width: number;
  readonly height: number;
};

export const FULL: ConvertSize = { runs: 5, frames: 600, width: 640, height: 480 };
export const QUICK: ConvertSize = { runs: 1, frames: 30, width: 128, height: 96 };

/** The settings that are compared first. */
export const H264 = { codec: 'h264', crf: 23, gop: 2, preset: 'veryfast' } as const;
const AV1 = { codec: 'av1', crf: 30, gop: 2, preset: '12' } as const;
type Video = typeof H264 | typeof AV1;

/**
 * Three cameras with camera noise, joints at 100 Hz. Goals: wall ≤ 1.10 and CPU ≤ 1.15 of the bare encoders; joints at
 * 1 kHz add less than 3 %. The reference reads picture files, all cameras at once, with the same encoder arguments but for
 * the threads, whose number is FFmpeg's choice; a further row compares with as many threads as a conversion uses.
 */
export async function benchConvert(size = FULL): Promise<ConvertBench[]> {
  return await withRecordings(size, async (folder, recording) => {
    const rows: ConvertBench[] = [];
    // The first conversion after a build also keeps what is compiled for those to come.
    await convert(recording(100), await writeConfig(folder, H264), folder, size.frames);
    for (const video of [H264, AV1]) {
      const config = await writeConfig(folder, video);
      for (const threads of [undefined, 1]) {
        const { ratio, reference } = await ratios(
          size.runs,
          { work: () => encodeBare(folder, video, threads) },
          { work: () => convert(recording(100), config, folder, size.frames) },
        );
        const what = `${video.codec} ${video.preset} to bare ffmpeg${threads ? ', one thread each' : ''}`;
        const goals = { goalWall: 1.1, goalCpu: 1.15 };
        rows.push({ what, runs: size.runs, reference: reference.wall, ...ratio, ...goals });
      }
      rows.push(await benchRunning(size, video, recording(100), folder));
    }
    const config = await writeConfig(folder, H264);
    // So small a difference takes more runs to be seen.
    const runs = 2 * size.runs;
    const { ratio, reference } = await ratios(
      runs,
      { work: () => convert(recording(100), config, folder, size.frames) },
      { work: () => convert(recording(1000), config, folder, size.frames) },
    );
    const what = 'joints at 1 kHz to 100 Hz';
    rows.push({ what, runs, reference: reference.wall, ...ratio, goalWall: 1.03, goalCpu: 1.03 });
    return rows;
  });
}

/** The same for a worker that has converted before, as those of the service have. */
async function benchRunning(
  { runs, frames }: ConvertSize,
  video: Video,
  recording: string,
  folder: string,
): Promise<ConvertBench> {
  const out = join(folder, `running-${video.codec}`);
  const worker = RunningWorker.start(configOf(video), out);
  try {
    const work = async () => {
      const { frames: found } = await worker.convert(recording);
      if (found !== frames) throw new Error(`expected ${frames} rows, found ${found}`);
    };
    await work();
    const bare = { work: () => encodeBare(folder, video) };
    const { ratio, reference } = await ratios(runs, bare, { work, cpu: () => worker.cpu() });
    const what = `${video.codec} ${video.preset} in a running worker to bare ffmpeg`;
    return { what, runs, reference: reference.wall, ...ratio, goalWall: 1.1, goalCpu: 1.15 };
  } finally {
    await worker.end();
  }
}

/** The conversion alone, in a process with a worker's flags: its own CPU, and how long its event loop was held up. */
export type ConversionBench = ConversionCost & { readonly goalLoopP99Ms: number };

/** Goal: event loop p99 < 20 ms. */
export async function benchConversion(size = FULL): Promise<ConversionBench> {
  return await withRecordings(size, async (folder, recording) => {
    const costs: ConversionCost[] = [];
    for (let run = 0; run < size.runs; run++) {
      const [cost] = await convertInChild(configOf(H264), join(folder, `out-${run}`), [recording(100)]);
      if (cost?.frames !== size.frames)
        throw new Error(`expected ${size.frames} rows, found ${cost?.frames}`);
      costs.push(cost);
    }
    const middle = (key: keyof ConversionCost) => rounded(median(costs.map((cost) => cost[key])));
    return {
      frames: size.frames,
      seconds: middle('seconds'),
      cpuSeconds: middle('cpuSeconds'),
      loopP99Ms: middle('loopP99Ms'),
      loopMaxMs: middle('loopMaxMs'),
      peakRssBytes: middle('peakRssBytes'),
      goalLoopP99Ms: 20,
    };
  });
}

/** Writes the recordings, joints at 100 Hz and at 1 kHz, and their pictures as files; gives the paths by rate. */
export async function withRecordings<T>(
  { frames, width, height }: ConvertSize,
  work: (folder: string, recording: (jointRate: number) => string) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'roboflow-bench-'));
  const recording = (jointRate: number) => join(folder, `joints-${jointRate}.mcap`);
  try {
    const pictures = await Promise.all(
      Array.from({ length: Math.min(frames, 60) }, (_, i) => noisyJpeg(i, { width, height })),
    );
    const seconds = frames / FPS;
    for (const jointRate of [100, 1000]) {
      const options = { seconds, cameras: CAMERAS, width, height, pictures, jointRate };
      await writeLongRecording(recording(jointRate), options);
    }
    await mkdir(join(folder, 'jpegs'));
    for (let i = 0; i < frames; i++) {
      await writeFile(picturePath(folder, String(i).padStart(4, '0')), pictures[i % pictures.length] ?? '');
    }
    return await work(folder, recording);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

const picturePath = (folder: string, name: string) => join(folder, 'jpegs', `${name}.jpg`);

/** Writes the config of these recordings; gives its path. */
export async function writeConfig(folder: string, video: Video): Promise<string> {
  const path = join(folder, `${video.codec}.json`);
  await writeFile(path, JSON.stringify(configOf(video)));
  return path;
}

function configOf(video: Video) {
  return {
    fps: FPS,
    clock: 'header',
    video,
    features: {
      ...Object.fromEntries(
        CAMERAS.map((camera) => [
          `observation.images.${camera}`,
          { topic: `/${camera}/image_raw/compressed`, type: 'video' },
        ]),
      ),
      'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
    },
  };
}

/** The same pictures, filter and encoder settings, all cameras at once. */
async function encodeBare(folder: string, video: Video, threads?: number): Promise<void> {
  const input = `-v error -y -framerate ${FPS}`.split(' ');
  const encoder = encoderArguments({ ...video, pixFmt: 'yuv420p', threads });
  const args = (camera: string) => [
    ...input,
    '-i',
    picturePath(folder, '%04d'),
    '-vf',
    'scale=in_range=full:out_range=limited',
    ...encoder,
    '-movflags',
    '+faststart',
    join(folder, `${camera}.mp4`),
  ];
  await Promise.all(CAMERAS.map((camera) => run('ffmpeg', args(camera))));
}

/** Runs `roboflow convert`; throws unless it makes an episode of `frames` rows. */
export async function convert(
  recording: string,
  config: string,
  folder: string,
  frames: number,
): Promise<void> {
  const out = join(folder, 'out');
  await rm(out, { recursive: true, force: true });
  const cli = fileURLToPath(new URL('../../src/cli.js', import.meta.url));
  const options = ['--config', config, '--out', out, '--task', 'Move.', '--json'];
  const said = await run(process.execPath, [...process.execArgv, cli, 'convert', recording, ...options]);
  const { episodes } = JSON.parse(said) as { episodes: { frames: number }[] };
  if (episodes[0]?.frames !== frames)
    throw new Error(`expected ${frames} rows, found ${episodes[0]?.frames}`);
}

/** Runs a program; gives its standard output. */
export async function run(program: string, args: readonly string[]): Promise<string> {
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (said += text));
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`${program} ended with ${code}`);
  return said;
}
