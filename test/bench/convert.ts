// Wall and CPU of a conversion against the bare ffmpeg commands over the same JPEGs with the same settings.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { median, timed } from './measure.ts';
import { writeLongRecording } from '../helpers/long-recording.ts';
import { noisyJpeg } from '../helpers/noisy-jpeg.ts';

const CAMERAS = ['cam_left', 'cam_right', 'cam_wrist'];
const FRAMES = 600;
const FPS = 30;

/** Ratios to the bare encoder, medians of interleaved runs. */
export type ConvertBench = {
  readonly runs: number;
  readonly wall: number;
  readonly cpu: number;
  readonly goalWall: number;
};

/** One episode, 3 cameras × 600 frames of 640×480 with camera noise; goal: wall ≤ 1.10 of the bare encoders. */
export async function benchConvert(runs = 3): Promise<ConvertBench> {
  const folder = await mkdtemp(join(tmpdir(), 'roboflow-bench-'));
  try {
    const pictures = await Promise.all(
      Array.from({ length: 60 }, (_, i) => noisyJpeg(i, { width: 640, height: 480 })),
    );
    const recording = join(folder, 'recording.mcap');
    await writeLongRecording(recording, {
      seconds: FRAMES / FPS,
      cameras: CAMERAS,
      width: 640,
      height: 480,
      pictures,
    });
    const jpegs = join(folder, 'jpegs');
    await mkdir(jpegs);
    for (let i = 0; i < FRAMES; i++) {
      await writeFile(join(jpegs, `${String(i).padStart(4, '0')}.jpg`), pictures[i % pictures.length] ?? '');
    }
    const config = join(folder, 'config.json');
    await writeFile(config, JSON.stringify(configOf()));
    const walls: number[] = [];
    const cpus: number[] = [];
    for (let run = 0; run < runs; run++) {
      const bare = await timed(() => encodeBare(jpegs, folder));
      const ours = await timed(() => convert(recording, config, join(folder, `out-${run}`)));
      walls.push(ours.wall / bare.wall);
      cpus.push(ours.cpu / bare.cpu);
    }
    return { runs, wall: median(walls), cpu: median(cpus), goalWall: 1.1 };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function configOf() {
  return {
    fps: FPS,
    clock: 'header',
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
async function encodeBare(jpegs: string, folder: string): Promise<void> {
  const input = `-v error -y -framerate ${FPS}`.split(' ');
  const settings =
    '-c:v libx264 -preset veryfast -crf 23 -g 2 -bf 0 -pix_fmt yuv420p -movflags +faststart'.split(' ');
  const args = (camera: string) => [
    ...input,
    '-i',
    join(jpegs, '%04d.jpg'),
    '-vf',
    'scale=in_range=full:out_range=limited',
    ...settings,
    join(folder, `${camera}.mp4`),
  ];
  await Promise.all(CAMERAS.map((camera) => run('ffmpeg', args(camera))));
}

async function convert(recording: string, config: string, out: string): Promise<void> {
  const cli = fileURLToPath(new URL('../../src/cli.js', import.meta.url));
  await run(process.execPath, [
    cli,
    'convert',
    recording,
    '--config',
    config,
    '--out',
    out,
    '--task',
    'Move.',
  ]);
}

async function run(program: string, args: readonly string[]): Promise<void> {
  const child = spawn(program, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  const [code] = (await once(child, 'exit')) as [number | null];
  if (code !== 0) throw new Error(`${program} ended with ${code}`);
}
