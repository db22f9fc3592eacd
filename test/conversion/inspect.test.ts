import { execFile, spawnSync } from 'node:child_process';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';
import sharp from 'sharp';
import { temporaryFolder } from '../helpers/conversion.ts';
import { demonstration, headerOf, START } from '../helpers/demonstration.ts';
import type { BuiltChannel } from '../helpers/recordings.ts';

const run = promisify(execFile);
const program = fileURLToPath(new URL('../../src/cli.js', import.meta.url));

const image = (topic: string, encoding: string, bytes: number, data: Uint8Array): BuiltChannel => ({
  topic,
  type: 'sensor_msgs/Image',
  messages: [0n, 1n].map((k) => ({
    log: START + k,
    value: {
      header: headerOf(START + k, ''),
      height: 4,
      width: 8,
      encoding,
      is_bigendian: 0,
      step: 8 * bytes,
      data,
    },
  })),
});

const stream = () =>
  spawnSync(
    'ffmpeg',
    '-v error -f lavfi -i color=red:size=64x48 -frames:v 1 -c:v libx264 -f h264 -'.split(' '),
  ).stdout;

test('inspect writes the first picture of every camera as PNG, under names made of the topics', async (t) => {
  const folder = await temporaryFolder(t);
  const recording = join(folder, 'take.mcap');
  const depth = new Uint8Array(Uint16Array.from({ length: 32 }, (_, i) => 500 + i * 100).buffer);
  const coded = stream();
  const change = (channels: BuiltChannel[]): BuiltChannel[] => [
    ...channels,
    image(
      '/cam/../raw',
      'bgr8',
      3,
      new Uint8Array(96).map((_, i) => (i % 3 === 0 ? 200 : 10)),
    ),
    image('/cam/raw', 'rgb8', 3, new Uint8Array(96).fill(77)),
    image('/depth', '16UC1', 2, depth),
    {
      topic: '/stream',
      type: 'sensor_msgs/CompressedImage',
      messages: [{ log: START, value: { header: headerOf(START, ''), format: 'h264', data: coded } }],
    },
  ];
  await writeFile(recording, await demonstration({ seconds: 0.2, change }));
  const place = join(folder, 'look');
  const { stdout } = await run(process.execPath, [program, 'inspect', recording, '--pictures', place]);
  t.regex(stdout, /\/stream: .*\/look\/stream\.png/);
  t.deepEqual((await readdir(place)).toSorted(), [
    'cam_high_image_raw_compressed.png',
    'cam_raw-2.png',
    'cam_raw.png',
    'depth.png',
    'stream.png',
  ]);
  const pixel = async (name: string) => [
    ...(
      await sharp(await readFile(join(place, name)))
        .removeAlpha()
        .raw()
        .toBuffer()
    ).subarray(0, 3),
  ];
  t.deepEqual(await pixel('cam_raw.png'), [10, 10, 200]);
  t.deepEqual(await pixel('cam_raw-2.png'), [77, 77, 77]);
  const [red = 0, green = 255] = await pixel('stream.png');
  t.true(red > 240 && green < 15, `${red}, ${green}`);
  const shades = await sharp(await readFile(join(place, 'depth.png')))
    .greyscale()
    .raw()
    .toBuffer();
  t.deepEqual([shades[0], shades.at(-1)], [0, 255]);
});
