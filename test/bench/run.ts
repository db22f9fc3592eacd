// npm run bench [-- NAME… [--quick]]: every benchmark, a table each, all of it in test/bench/results.json.
import { writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { benchConvert } from './convert.ts';
import { benchFinalize } from './finalize.ts';
import { benchFleet } from './fleet.ts';
import { benchCopy } from './copy.ts';
import { benchCrash, benchJobs } from './jobs.ts';
import { benchMemory } from './memory.ts';
import { benchPlanning } from './planning.ts';
import { benchReading } from './reading.ts';
import { benchS3 } from './s3.ts';
import { benchScrape } from './scrape.ts';

/** Less of everything, for a first look: what takes minutes takes less than one. */
const quick = process.argv.includes('--quick');

const benchmarks: Readonly<Record<string, () => Promise<unknown>>> = {
  convert: () => benchConvert(),
  copy: () => benchCopy(),
  memory: () => benchMemory(),
  jobs: async () => [await benchJobs(1000, 1), await benchJobs(1000, 2)],
  crash: async () => ({ millisecondsToRunAgain: await benchCrash(5) }),
  planning: async () => [await benchPlanning(1000), await benchPlanning(10_000)],
  finalize: () => benchFinalize(),
  reading: () => benchReading(),
  scrape: () => benchScrape(),
  s3: () => (quick ? benchS3(0.2, 1) : benchS3()),
  fleet: () => benchFleet(quick ? 4 : 24),
};

const wanted = process.argv.slice(2).filter((name) => name !== '--quick');
const unknown = wanted.filter((name) => !(name in benchmarks));
if (unknown.length > 0) {
  console.error(`expected some of ${Object.keys(benchmarks).join(', ')}; found ${unknown.join(', ')}`);
  process.exit(2);
}
const results: Record<string, unknown> = {};
for (const [name, bench] of Object.entries(benchmarks)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  console.log(`\n${name}`);
  const result = await bench();
  results[name] = result;
  console.table(Array.isArray(result) ? result : [result]);
}
const machine = { node: process.version, cpus: cpus().length, model: cpus()[0]?.model };
await writeFile('test/bench/results.json', `${JSON.stringify({ machine, results }, null, 2)}\n`);
process.exit(0);
