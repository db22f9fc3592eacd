// npm run bench [-- NAME… --quick --compare FILE --prof --out FILE]: benchmarks, a table each, all in one JSON file.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { cpus, release, totalmem, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { changes } from './compare.ts';
import { benchConversion, benchConvert, QUICK } from './convert.ts';
import { benchFinalize } from './finalize.ts';
import { benchFleet } from './fleet.ts';
import { benchCopy } from './copy.ts';
import { benchCrash, benchJobs } from './jobs.ts';
import { benchLoad } from './load.ts';
import { benchMemory } from './memory.ts';
import { benchPlanning } from './planning.ts';
import { busiest } from './profile.ts';
import { benchReading } from './reading.ts';
import { benchS3 } from './s3.ts';
import { benchScrape } from './scrape.ts';

/** In full, and on so little input that only its correctness shows. */
type Benchmark = { readonly full: () => Promise<unknown>; readonly quick: () => Promise<unknown> };

const benchmarks: Readonly<Record<string, Benchmark>> = {
  convert: { full: () => benchConvert(), quick: () => benchConvert(QUICK) },
  conversion: { full: () => benchConversion(), quick: () => benchConversion(QUICK) },
  copy: { full: () => benchCopy(), quick: () => benchCopy([{ seconds: 2, runs: 1 }]) },
  memory: { full: () => benchMemory(), quick: () => benchMemory([0.05]) },
  jobs: {
    full: async () => [await benchJobs(1000, 1), await benchJobs(1000, 2)],
    quick: async () => [await benchJobs(20, 1)],
  },
  crash: {
    full: async () => ({ millisecondsToRunAgain: await benchCrash(5) }),
    quick: async () => ({ millisecondsToRunAgain: await benchCrash(1) }),
  },
  planning: {
    full: async () => [await benchPlanning(1000), await benchPlanning(10_000)],
    quick: async () => [await benchPlanning(20)],
  },
  finalize: { full: () => benchFinalize(), quick: () => benchFinalize([20]) },
  reading: { full: () => benchReading(), quick: () => benchReading(1, 1) },
  scrape: { full: () => benchScrape(), quick: () => benchScrape([2], 5) },
  s3: { full: () => benchS3(), quick: () => benchS3(0.2, 1) },
  load: {
    full: async () => [await benchLoad(10_000, 4, 4)],
    quick: async () => [await benchLoad(40, 2, 1)],
  },
  fleet: { full: () => benchFleet(24), quick: () => benchFleet(4) },
};

const { values: options, positionals: wanted } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    prof: { type: 'boolean', default: false },
    compare: { type: 'string' },
    out: { type: 'string', default: 'test/bench/results.json' },
  },
});
const unknown = wanted.filter((name) => !(name in benchmarks));
if (unknown.length > 0) {
  console.error(`expected some of ${Object.keys(benchmarks).join(', ')}; found ${unknown.join(', ')}`);
  process.exit(2);
}
if (options.prof && !process.execArgv.includes('--cpu-prof')) await runProfiled();

const before =
  options.compare === undefined ? undefined : JSON.parse(await readFile(options.compare, 'utf8'));
const results: Record<string, unknown> = {};
for (const [name, bench] of Object.entries(benchmarks)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  console.log(`\n${name}`);
  const result = await (options.quick ? bench.quick() : bench.full());
  results[name] = result;
  console.table(Array.isArray(result) ? result : [result]);
}
const saved = { machine: machine(), results };
if (before !== undefined) {
  console.log(`\nchanges from ${options.compare}`);
  console.table(changes(before, saved));
}
await writeFile(options.out, `${JSON.stringify(saved, null, 2)}\n`);
process.exit(0);

/** The same again with a profile of every Node process, then the functions that were busiest. */
async function runProfiled(): Promise<never> {
  const folder = await mkdtemp(join(tmpdir(), 'roboflow-profile-'));
  const flags = ['--cpu-prof', `--cpu-prof-dir=${folder}`];
  const args = [...flags, fileURLToPath(import.meta.url), ...process.argv.slice(2)];
  const { status } = spawnSync(process.execPath, args, { stdio: 'inherit' });
  console.log(`\nprofiles in ${folder}`);
  console.table(await busiest(folder));
  process.exit(status ?? 1);
}

function machine() {
  const [processor] = cpus();
  const [ffmpeg] = execFileSync('ffmpeg', ['-version'], { encoding: 'utf8' }).split(' Copyright');
  return {
    cpus: cpus().length,
    model: processor?.model,
    memoryGB: Math.round(totalmem() / 1e9),
    system: `${process.platform} ${release()}`,
    node: process.version,
    ffmpeg,
  };
}
