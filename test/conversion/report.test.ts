import { execFile, spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';
import { Registry } from 'prom-client';
import sharp from 'sharp';
import { datasetConfig } from '../../src/conversion/config.ts';
import { convertEpisode } from '../../src/conversion/convert.ts';
import { chart } from '../../src/conversion/report-chart.ts';
import { reportEpisode } from '../../src/conversion/report-episode.ts';
import { episodePage } from '../../src/conversion/report.ts';
import { createMetrics } from '../../src/metrics/index.ts';
import { openStorage } from '../../src/storage/open.ts';
import { quiet, temporaryFolder } from '../helpers/conversion.ts';
import { demonstration, numberIn } from '../helpers/demonstration.ts';

const run = promisify(execFile);
const program = fileURLToPath(new URL('../../src/cli.js', import.meta.url));

const config = {
  fps: 30,
  robot_type: 'arm <b>7</b>',
  clock: 'header',
  features: {
    'observation.images.cam_high': { topic: '/cam_high/image_raw/compressed', type: 'video' },
    'observation.images.wrist': { topic: '/wrist/image_raw/compressed', type: 'image' },
    'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
    action: { topic: '/joint_commands', field: 'position', names: 'all' },
    grip: { topic: '/joint_states', field: 'position', names: ['gripper'], labels: ['open'] },
  },
};

type Reported = Awaited<ReturnType<typeof report>>;
let made: Promise<Reported> | undefined;
let folder: string | undefined;

/** A converted demonstration and its report, made once. */
function reported(): Promise<Reported> {
  made ??= report();
  return made;
}

async function report() {
  folder = await mkdtemp(join(tmpdir(), 'roboflow-report-'));
  const source = join(folder, 'take.mcap');
  await writeFile(
    source,
    await demonstration({ seconds: 1, cameras: ['cam_high', 'wrist'], width: 320, height: 240 }),
  );
  const metrics = createMetrics(new Registry());
  const storage = openStorage(join(folder, 'dataset'), { metrics: metrics.storage, role: 'destination' });
  const { signal } = new AbortController();
  const { manifest } = await convertEpisode(
    { source, config: datasetConfig.parse(config), key: 'episode', slot: 0, task: 'Pick it up.' },
    {
      output: storage,
      scratch: join(folder, 'scratch'),
      bufferMaxBytes: 64 * 1024 * 1024,
      upload: { concurrency: 2, maxAttempts: 3 },
      metrics,
      log: quiet,
      signal,
    },
  );
  const request = { storage, key: 'episode', scratch: folder, signal };
  return { manifest, request, page: await reportEpisode(request) };
}

test.after.always(async () => {
  await made?.catch(() => undefined);
  if (folder !== undefined) await rm(folder, { recursive: true, force: true });
});

test('a report shows the frames, curves and alignment of an episode in one page without scripts or links', async (t) => {
  const { manifest, request, page } = await reported();
  t.regex(page, /<h1>take\.mcap<\/h1>/);
  t.true(page.includes('arm &lt;b&gt;7&lt;/b&gt;'), 'texts are escaped');
  t.notRegex(page, /<script|<link|https?:\/\/|url\(/);
  t.is(page.match(/<svg /g)?.length, 5, 'four joints with state and action, and the grip');
  t.is(page.match(/<path class="b"/g)?.length, 4);
  t.regex(page, new RegExp(`${manifest.alignment.rows} rows kept`));
  t.is(page.match(/<tr>/g)?.length, 1 + manifest.alignment.sources.length);
  t.regex(page, /Nothing of the recording was lost/);

  const pictures = [
    ...page.matchAll(/<img src="data:image\/jpeg;base64,([^"]+)" alt="([^"]+), frame (\d+) of (\d+)"/g),
  ];
  t.is(pictures.length, 24);
  for (const [, data = '', camera = '', index = ''] of pictures) {
    const { data: pixels, info } = await sharp(Buffer.from(data, 'base64'))
      .greyscale()
      .raw()
      .toBuffer({ resolveWithObject: true });
    t.is(info.width, 320);
    const found = numberIn(pixels, info);
    t.is(found, Number(index), `${camera}: the picture of frame ${index} shows ${found}`);
  }
  t.is(pictures.at(-1)?.[3], String(manifest.alignment.rows - 1));

  const few = await reportEpisode({ ...request, pictures: 3 });
  t.is(few.match(/<img /g)?.length, 6);
  await t.throwsAsync(reportEpisode({ ...request, key: 'other' }), {
    name: 'InputError',
    message: /expected the manifest/,
  });
  await t.throwsAsync(reportEpisode({ ...request, episode: 1 }), {
    name: 'InputError',
    message: /expected an episode from 0 to 0/,
  });
});

test('the command writes the page of an episode, found by its number or by its manifest', async (t) => {
  const { request, page } = await reported();
  const place = await temporaryFolder(t);
  const dataset = fileURLToPath(request.storage.url);
  const cli = (...args: string[]) => run(process.execPath, [program, 'report', ...args], { cwd: place });
  t.is((await cli(dataset)).stdout, `${join(place, 'episode-0.html')}\n`);
  t.is(await readFile(join(place, 'episode-0.html'), 'utf8'), page);
  const manifest = join(dataset, '.roboflow/episodes/episode.json');
  const { stdout } = await cli(manifest, '--out', 'other.html', '--pictures', '2', '--json');
  t.deepEqual(JSON.parse(stdout), { path: join(place, 'other.html'), key: 'episode', episode: 0 });
  t.is((await readFile(join(place, 'other.html'), 'utf8')).match(/<img /g)?.length, 4);
  await t.throwsAsync(cli(dataset, '--episode', '1'), {
    message: /expected an episode from 0 to 0 of file:/,
  });
});

test('what was lost, dropped or late stands out', async (t) => {
  const { manifest } = await reported();
  const [first] = manifest.alignment.sources;
  if (!first) throw new Error('no source in the report');
  const page = episodePage({
    manifest: {
      ...manifest,
      alignment: {
        ...manifest.alignment,
        droppedRows: 7,
        sources: [{ ...first, dropped: 7, late: 2, foreign: 41 }],
      },
      losses: [{ what: 'a chunk <cut short>', count: 3, bytes: 120 }],
    },
    episode: 0,
    rows: new Map(),
    frames: [],
  });
  t.regex(page, /<span class="warn"> · 7 dropped for want of a sample<\/span>/);
  t.regex(page, /<td><span class="warn">2<\/span><\/td>/);
  t.regex(page, /<br \/><span class="soft">41<br \/>of others<\/span>/);
  t.regex(page, /<li class="warn">a chunk &lt;cut short&gt; \(3 times, 120 bytes\)<\/li>/);
  t.regex(page, /No pictures were given/);
  t.throws(() => episodePage({ manifest, episode: 4, rows: new Map(), frames: [] }), {
    message: /expected an episode/,
  });
});

test('a curve of an hour keeps its peaks and stays small', (t) => {
  const values = new Float64Array(108_000);
  values[54_321] = 5;
  values[80_000] = -3;
  const { html } = chart('peak', [{ key: 'x', values }], 30);
  t.true(html.length < 12_000, `${html.length} characters`);
  const ys = [...html.matchAll(/[ML]([\d.]+) ([\d.]+)/g)].map(([, , y]) => Number(y));
  t.is(Math.min(...ys), 8);
  t.is(Math.max(...ys), 102);
  t.regex(html, />5<\/text>/);
  t.regex(html, />-3<\/text>/);
  t.regex(html, />3600 s<\/text>/);
  t.notRegex(chart('still', [{ key: 'x', values: new Float64Array(10) }], 30).html, /NaN|Infinity/);
  t.notRegex(chart('one', [{ key: 'x', values: Float64Array.of(2) }], 30).html, /NaN|Infinity/);
});

// Debian: apt-get install chromium
const browser = firstOf(['chromium', 'chromium-browser', 'google-chrome']);

(browser ? test : test.skip)('Chromium shows every picture and curve of a report', async (t) => {
  const { page } = await reported();
  const place = await temporaryFolder(t);
  const file = join(place, 'report.html');
  await writeFile(file, page);
  const shot = join(place, 'report.png');
  await run(browser ?? '', [
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--hide-scrollbars',
    `--user-data-dir=${place}`,
    '--window-size=1240,2600',
    `--screenshot=${shot}`,
    `file://${file}`,
  ]);
  const { data, info } = await sharp(shot).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  t.is(info.width, 1240);
  // The two curves' colours of the light look, or of the dark one.
  const has = (wanted: readonly [number, number, number][]) =>
    wanted.some(([r, g, b]) => {
      for (let i = 0; i < data.length; i += 3) {
        if (
          Math.abs((data[i] ?? 0) - r) + Math.abs((data[i + 1] ?? 0) - g) + Math.abs((data[i + 2] ?? 0) - b) <
          12
        )
          return true;
      }
      return false;
    });
  t.true(
    has([
      [0x16, 0x68, 0xc7],
      [0x6d, 0xb2, 0xff],
    ]),
    'the first curve is drawn',
  );
  t.true(
    has([
      [0xd9, 0x60, 0x0a],
      [0xff, 0x9d, 0x52],
    ]),
    'the second curve is drawn',
  );
});

(browser ? test : test.skip)(
  'nothing of a report is wider than a window of 1200 or of 800 pixels',
  async (t) => {
    const { manifest } = await reported();
    const place = await temporaryFolder(t);
    const [first] = manifest.alignment.sources;
    if (!first) throw new Error('no source in the report');
    // A long drive: numbers of six digits, names as long as they get.
    const counts = { samples: 360_000, used: 123_456, exact: 123_456, held: 98_765, interpolated: 98_765 };
    const foreign = 234_567;
    const faults = { late: 12_345, undecodable: 12_345, dropped: 12_345 };
    const times = {
      age: { p50: 0.123_456, p95: 1.234_567, max: 12.345_678 },
      largestGap: 123.456,
      stampLag: { min: -1.234_567, max: 12.345_678 },
    };
    const long = {
      ...first,
      feature: 'observation.images.left_wrist_fisheye_camera',
      ...counts,
      ...faults,
      foreign,
    };
    const topic = '/robot/left_arm/wrist/fisheye_camera/color/image_raw/compressed';
    const page = episodePage({
      manifest: {
        ...manifest,
        alignment: { ...manifest.alignment, sources: [{ ...long, topic, ...times }] },
      },
      episode: 0,
      rows: new Map(),
      frames: [],
    });
    const measure = `<script>document.title = [...document.querySelectorAll('html, .scroll')]
    .map((box) => box.scrollWidth - box.clientWidth).join(' ')</script>`;
    const file = join(place, 'report.html');
    await writeFile(
      file,
      page.replace(/<meta\s+http-equiv[^>]*>/, '').replace('</body>', `${measure}</body>`),
    );
    for (const width of [1200, 800]) {
      const options = [
        '--headless',
        '--no-sandbox',
        '--disable-gpu',
        `--user-data-dir=${place}`,
        '--dump-dom',
      ];
      const { stdout } = await run(browser ?? '', [
        ...options,
        `--window-size=${width},900`,
        `file://${file}`,
      ]);
      t.is(
        /<title>(.*)<\/title>/.exec(stdout)?.[1],
        '0 0',
        `${width} pixels: beyond the edge of page and table`,
      );
    }
  },
);

function firstOf(programs: readonly string[]): string | undefined {
  return programs.find((program) => spawnSync('sh', ['-c', `command -v ${program}`]).status === 0);
}
