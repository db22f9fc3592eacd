import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { verifyDataset } from '../../src/dataset/verify.ts';
import { codedPictures, withoutB as noB } from '../helpers/coded-pictures.ts';
import { bench, temporaryFolder } from '../helpers/conversion.ts';
import { demonstration, headerOf, numberedPixels, numberIn, START } from '../helpers/demonstration.ts';
import type { BuiltChannel } from '../helpers/recordings.ts';

const run = promisify(execFile);
const size = { width: 160, height: 96 };

/** Coded pictures of numbered frames. */
function coded(codec: 'h264' | 'h265', frames: number, options?: readonly string[], from = 0): Buffer[] {
  const pixels = Buffer.concat(
    Array.from({ length: frames }, (_, frame) => numberedPixels(from + frame, size)),
  );
  const input = ['-f', 'rawvideo', '-pix_fmt', 'rgb24', '-s', `${size.width}x${size.height}`];
  return codedPictures(codec, pixels, input, options);
}

/** A recording whose camera sends coded pictures at 30 Hz, from picture `first` on. */
async function recordingOf(
  folder: string,
  codec: 'h264' | 'h265',
  units: readonly Buffer[],
  first = 0,
  lost: readonly number[] = [],
  jointsLater = 0,
  name = '',
): Promise<string> {
  const path = join(folder, `${name}${codec}-${units.length}-${first}-${lost.join('-')}-${jointsLater}.mcap`);
  const change = (channels: BuiltChannel[]): BuiltChannel[] => [
    ...channels
      .filter(({ topic }) => topic.startsWith('/joint'))
      .map((channel) => ({ ...channel, messages: channel.messages.slice(jointsLater) })),
    {
      topic: '/cam/video',
      type: 'sensor_msgs/CompressedImage',
      messages: units.flatMap((data, i) => {
        if (i < first || lost.includes(i)) return [];
        const stamp = START + (BigInt(i) * 1_000_000_000n) / 30n;
        return { log: stamp + 5_000_000n, value: { header: headerOf(stamp, 'cam'), format: codec, data } };
      }),
    },
  ];
  await writeFile(path, await demonstration({ seconds: units.length / 30, jointRate: 100, change }));
  return path;
}

const config = (fps: number) => ({
  fps,
  clock: 'header',
  features: {
    'observation.images.cam': { topic: '/cam/video', type: 'video' },
    'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
  },
});

/** The numbers in the frames of a video. */
async function numbersIn(path: string): Promise<number[]> {
  const { stdout } = await run(
    'ffmpeg',
    ['-v', 'error', '-i', path, '-f', 'rawvideo', '-pix_fmt', 'rgb24', '-'],
    {
      encoding: 'buffer',
      maxBuffer: 1 << 27,
    },
  );
  const bytes = size.width * size.height * 3;
  return Array.from({ length: stdout.length / bytes }, (_, i) =>
    numberIn(stdout.subarray(i * bytes, (i + 1) * bytes), size),
  );
}

for (const codec of ['h264', 'h265'] as const) {
  test(`${codec} pictures are decoded before they are aligned: every row shows its own, at half and at twice the rate`, async (t) => {
    const { convert, finalize, context, output } = await bench(t);
    const folder = await temporaryFolder(t);
    const source = await recordingOf(folder, codec, coded(codec, 60, noB[codec]));
    for (const [slot, fps] of [15, 60].entries()) {
      const { manifest } = await convert(source, config(fps), `at${fps}`, slot);
      const video = manifest.files.find(({ type }) => type === 'video');
      const numbers = await numbersIn(join(output, video?.path ?? ''));
      t.is(numbers.length, manifest.alignment.rows);
      t.deepEqual(
        numbers,
        numbers.map((_, row) => (fps === 15 ? row * 2 : Math.floor(row / 2))),
      );
    }
    await finalize(config(15), ['at15']);
    t.deepEqual(
      (await verifyDataset(context.output)).filter(({ ok }) => !ok),
      [],
    );
  });
}

test('a stream that begins between key frames shows nothing before the first one, and nothing is shifted', async (t) => {
  const { convert, output } = await bench(t);
  const source = await recordingOf(await temporaryFolder(t), 'h264', coded('h264', 60, noB.h264), 13);
  const { manifest } = await convert(source, config(30));
  const video = manifest.files.find(({ type }) => type === 'video');
  const numbers = await numbersIn(join(output, video?.path ?? ''));
  // Pictures 13 to 19 cannot be decoded; 20 is the first key frame.
  t.deepEqual(
    numbers,
    Array.from({ length: 40 }, (_, i) => 20 + i),
  );
  const camera = manifest.alignment.sources.find(({ topic }) => topic === '/cam/video');
  t.like(camera, { samples: 47, undecodable: 7, used: 40, dropped: 7 });
});

test('pictures sent out of order are refused, and so are pictures that do not decode', async (t) => {
  const { convert, output } = await bench(t);
  const folder = await temporaryFolder(t);
  const reordered = await recordingOf(
    folder,
    'h264',
    coded('h264', 30, ['-preset', 'medium', '-bf', '2', '-g', '30']),
  );
  await t.throwsAsync(convert(reordered, config(30)), {
    name: 'InputError',
    message: /topic \/cam\/video: expected pictures in the order in which they are shown, found a B frame/,
  });

  const units = coded('h264', 40, noB.h264);
  const damaged = units.map((unit, i) =>
    // The start of the slice header stays whole, so that only the decoder can tell.
    i === 25 ? Buffer.concat([unit.subarray(0, 14), Buffer.alloc(30, 0x55)]) : unit,
  );
  const broken = await recordingOf(folder, 'h264', damaged);
  await t.throwsAsync(convert(broken, config(30), 'strict'), {
    name: 'InputError',
    message:
      /topic \/cam\/video: 1 of 40 coded pictures do not decode, more than tolerate\.undecodable \(0\)/,
  });
  const { manifest } = await convert(broken, { ...config(30), tolerate: { undecodable: 0.1 } }, 'tolerant');
  const video = manifest.files.find(({ type }) => type === 'video');
  const numbers = await numbersIn(join(output, video?.path ?? ''));
  t.deepEqual(
    numbers,
    Array.from({ length: 40 }, (_, i) => (i === 25 ? 24 : i)),
  );
});

for (const codec of ['h264', 'h265'] as const) {
  test(`a ${codec} stream that lacks a picture is refused, not shown with what decoders make up`, async (t) => {
    const { convert, output } = await bench(t);
    const units = coded(codec, 40, noB[codec]);
    const source = await recordingOf(await temporaryFolder(t), codec, units, 0, [14]);
    await t.throwsAsync(convert(source, config(30), 'strict'), {
      name: 'InputError',
      message:
        codec === 'h264'
          ? /topic \/cam\/video: expected every coded picture since the last key frame, found one whose predecessor is missing/
          : /topic \/cam\/video: \d+ of 39 coded pictures do not decode/,
    });
    if (codec === 'h265') return;
    // Pictures 15 to 19 lack picture 14: rows show picture 13 until the next key frame, and the report says so.
    const { manifest } = await convert(source, { ...config(30), tolerate: { undecodable: 0.2 } }, 'tolerant');
    const video = manifest.files.find(({ type }) => type === 'video');
    t.deepEqual(
      await numbersIn(join(output, video?.path ?? '')),
      Array.from({ length: 40 }, (_, i) => (i >= 14 && i < 20 ? 13 : i)),
    );
    const camera = manifest.alignment.sources.find(({ topic }) => topic === '/cam/video');
    t.like(camera, { samples: 39, undecodable: 5, used: 34, held: 6 });
  });
}

test('after a message that holds no picture, nothing is shown up to the next key frame', async (t) => {
  const { convert, output } = await bench(t);
  const units = coded('h265', 40, noB.h265).with(14, Buffer.from('no start code'));
  const source = await recordingOf(await temporaryFolder(t), 'h265', units);
  const { manifest } = await convert(source, { ...config(30), tolerate: { undecodable: 0.2 } });
  const video = manifest.files.find(({ type }) => type === 'video');
  t.deepEqual(
    await numbersIn(join(output, video?.path ?? '')),
    Array.from({ length: 40 }, (_, i) => (i >= 14 && i < 20 ? 13 : i)),
  );
  const camera = manifest.alignment.sources.find(({ topic }) => topic === '/cam/video');
  t.like(camera, { samples: 40, undecodable: 6, used: 34, held: 6 });
});

const copying = (codec: 'h264' | 'h265', changes: object = {}) => ({
  ...config(30),
  video: { codec: codec === 'h264' ? 'h264' : 'hevc', copy: 'auto' },
  ...changes,
});

for (const codec of ['h264', 'h265'] as const) {
  test(`a ${codec} stream that lies on the grid is copied: the same coded bytes, every frame at its time`, async (t) => {
    const { convert, finalize, context, output } = await bench(t);
    const folder = await temporaryFolder(t);
    const counted = async () => {
      const { values } = await context.metrics.video.framesEncoded.get();
      return values.reduce((sum, { value }) => sum + value, 0);
    };
    // 250 pictures: with a key frame in ten there are enough of them for the statistics.
    for (const [slot, frames] of [60, 250].entries()) {
      const units = coded(codec, frames, noB[codec]);
      const source = await recordingOf(folder, codec, units);
      const before = await counted();
      const { manifest } = await convert(source, copying(codec), `take-${slot}`, slot);
      t.deepEqual(manifest.copies, { 'observation.images.cam': { copied: true } });
      t.regex(manifest.converter.encoder ?? '', / copy$/);
      t.is(await counted(), before, 'no encoder took them');
      const path = join(output, manifest.files.find(({ type }) => type === 'video')?.path ?? '');
      t.deepEqual(
        await numbersIn(path),
        Array.from({ length: manifest.alignment.rows }, (_, i) => i),
      );
      t.true(manifest.alignment.rows >= frames - 1);
      const times = await run('ffprobe', [
        '-v',
        'error',
        '-show_entries',
        'packet=pts_time,flags',
        '-of',
        'csv=p=0',
        path,
      ]);
      const packets = times.stdout
        .trim()
        .split('\n')
        .map((line) => line.split(','));
      packets.forEach(([time], i) => t.true(Math.abs(Number(time) - i / 30) < 1e-6, `frame ${i} at ${time}`));
      t.deepEqual(
        packets.flatMap(([, flags = ''], i) => (flags.startsWith('K') ? [i] : [])),
        Array.from({ length: frames / 10 }, (_, i) => i * 10),
      );
      const stats = manifest.episodes[0]?.stats['observation.images.cam'];
      const { manifest: again } = await convert(
        source,
        { ...copying(codec), video: { codec: copying(codec).video.codec } },
        `again-${slot}`,
        slot + 10,
      );
      const encoded = again.episodes[0]?.stats['observation.images.cam'];
      t.is(stats?.count, encoded?.count);
      for (const channel of [0, 1, 2]) {
        const [own = 0, other = 1] = [stats?.mean[channel], encoded?.mean[channel]];
        t.true(Math.abs(own - other) < 0.02, `channel ${channel}: ${own}, decoded ${other}`);
      }
    }
    await finalize(copying(codec), ['take-0', 'take-1']);
    t.deepEqual(
      (await verifyDataset(context.output)).filter(({ ok }) => !ok),
      [],
    );
  });
}

test('a stream is copied into a v2.1 dataset too', async (t) => {
  const { convert, finalize, context, output } = await bench(t);
  const source = await recordingOf(await temporaryFolder(t), 'h264', coded('h264', 30, noB.h264));
  const asked = copying('h264', { format: 'v2.1' });
  const { manifest } = await convert(source, asked);
  t.deepEqual(manifest.copies, { 'observation.images.cam': { copied: true } });
  await finalize(asked, ['episode']);
  t.deepEqual(
    (await verifyDataset(context.output)).filter(({ ok }) => !ok),
    [],
  );
  const video = join(output, 'videos/chunk-000/observation.images.cam/episode_000000.mp4');
  t.deepEqual(
    await numbersIn(video),
    Array.from({ length: manifest.alignment.rows }, (_, i) => i),
  );
});

test('copied streams of several episodes and recordings become one packed video, whatever encoders made them', async (t) => {
  const { convert, finalize, context, output } = await bench(t);
  const folder = await temporaryFolder(t);
  const asked = copying('h264', {
    clock: 'log',
    videos: { pack: true },
    episodes: { split: { marks: '{name}.json' } },
  });
  const marked = async (source: string, ...starts: number[]) => {
    const marks = [{ start: 0, end: 0.98 }, ...starts.map((start) => ({ start, end: 5 }))];
    await writeFile(source.replace(/mcap$/, 'json'), JSON.stringify(marks));
    return source;
  };
  const baseline = ['-preset', 'ultrafast', '-profile:v', 'baseline', '-g', '12', '-bf', '0', '-refs', '1'];
  const one = await recordingOf(folder, 'h264', coded('h264', 60, noB.h264));
  const two = await recordingOf(folder, 'h264', coded('h264', 60, baseline, 100), 0, [], 0, 'two');
  // The first recording leaves out ten pictures, up to a key frame; the second is cut between key frames.
  for (const [slot, source] of [await marked(one, 1.32), await marked(two, 0.99)].entries()) {
    const { manifest } = await convert(source, asked, `take-${slot}`, slot);
    t.deepEqual(manifest.copies, { 'observation.images.cam': { copied: true } });
    t.deepEqual(
      manifest.episodes.map(({ frames }) => frames),
      slot === 0 ? [30, 19] : [30, 29],
    );
  }
  await finalize(asked, ['take-0', 'take-1']);
  t.deepEqual(
    (await verifyDataset(context.output)).filter(({ ok }) => !ok),
    [],
  );
  const range = (from: number, length: number) => Array.from({ length }, (_, i) => from + i);
  t.deepEqual(await numbersIn(join(output, 'videos/observation.images.cam/chunk-000/file-000.mp4')), [
    ...range(0, 30),
    ...range(40, 19),
    ...range(100, 59),
  ]);

  const { manifest } = await convert(await marked(one, 1.2), asked, 'between', 2);
  t.like(manifest.copies?.['observation.images.cam'], {
    copied: false,
    reason: 'row 30 does not follow the picture before it',
  });
});

test('a stream that cannot be copied is encoded, and the manifest says why', async (t) => {
  const { convert, finalize, context, output } = await bench(t);
  const folder = await temporaryFolder(t);
  const units = coded('h264', 60, noB.h264);
  const source = await recordingOf(folder, 'h264', units);
  const key = 'observation.images.cam';
  const small = {
    ...config(30).features,
    [key]: { ...config(30).features[key], resize: { width: 80, height: 48 } },
  };
  const full = coded('h264', 60, [...noB.h264, '-vf', 'scale=out_range=full', '-pix_fmt', 'yuvj420p']);
  const far = coded('h264', 60, ['-preset', 'veryfast', '-g', '60', '-bf', '0', '-sc_threshold', '0']);
  const cases: [reason: RegExp, source: string, changes: object][] = [
    [/row 1 shows the picture of the row before it again/, source, { fps: 60 }],
    [/row 1 does not follow the picture before it/, source, { fps: 15 }],
    [/row 0 does not begin with a key frame/, await recordingOf(folder, 'h264', units, 0, [], 15), {}],
    [/changed \(resize\)/, source, { features: small }],
    [/has h264, video.codec asks for hevc/, source, { video: { codec: 'hevc', copy: 'auto' } }],
    [
      /pictures are yuvj420p, video.pix_fmt asks for yuv420p/,
      await recordingOf(folder, 'h264', full, 0, [], 0, 'full'),
      {},
    ],
    [
      /more than 30 pictures lie between key frames/,
      await recordingOf(folder, 'h264', far, 0, [], 0, 'far'),
      {},
    ],
  ];
  for (const [i, [reason, from, changes]] of cases.entries()) {
    const { manifest } = await convert(from, copying('h264', changes), `case-${i}`, i);
    t.false(manifest.copies?.[key]?.copied, `${reason}`);
    t.regex(manifest.copies?.[key]?.reason ?? '', reason);
    t.is(manifest.files.find(({ type }) => type === 'video')?.frames, manifest.alignment.rows);
  }
  // Copied and encoded recordings make one dataset.
  await convert(source, copying('h264'), 'copied', 20);
  await finalize(copying('h264'), ['copied', 'case-6']);
  t.deepEqual(
    (await verifyDataset(context.output)).filter(({ ok }) => !ok),
    [],
  );
  const info = JSON.parse(await readFile(join(output, 'meta/info.json'), 'utf8')) as {
    features: Record<string, { info: Record<string, unknown> }>;
  };
  t.false('video.crf' in (info.features[key]?.info ?? {}));
});

test('the colours of a stream in BT.709 arrive as they were', async (t) => {
  const { convert, output } = await bench(t);
  const exact = 'flags=accurate_rnd+full_chroma_int+full_chroma_inp';
  const hd = ['-vf', `scale=out_color_matrix=bt709:out_range=limited:${exact}`, '-colorspace', 'bt709'];
  const tags = ['-color_primaries', 'bt709', '-color_trc', 'bt709', '-crf', '10'];
  const source = await recordingOf(
    await temporaryFolder(t),
    'h264',
    coded('h264', 20, [...noB.h264, ...hd, ...tags]),
  );
  const { manifest } = await convert(source, { ...config(30), video: { crf: 10 } });
  const video = manifest.files.find(({ type }) => type === 'video');
  const { stdout } = await run(
    'ffmpeg',
    [
      '-v',
      'error',
      '-i',
      join(output, video?.path ?? ''),
      '-vf',
      `scale=${exact}`,
      '-f',
      'rawvideo',
      '-pix_fmt',
      'rgb24',
      '-',
    ],
    { encoding: 'buffer', maxBuffer: 1 << 26 },
  );
  const bytes = size.width * size.height * 3;
  const centre = (Math.floor(size.height * 0.75) * size.width + size.width / 2) * 3;
  const pixels = numberedPixels(7, size);
  for (const channel of [0, 1, 2]) {
    const found = stdout[7 * bytes + centre + channel] ?? 0;
    const expected = pixels[centre + channel] ?? 0;
    t.true(Math.abs(found - expected) <= 2, `channel ${channel}: ${found}, expected ${expected}`);
  }
});
