import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';
import { temporaryFolder } from '../helpers/conversion.ts';
import { changes } from './compare.ts';

const run = promisify(execFile);
const bench = fileURLToPath(new URL('run.js', import.meta.url));

type Saved = { machine: Record<string, unknown>; results: Record<string, unknown> };

/** Those of buckets and fleets need programs and minutes of their own. */
const NAMES = [
  'convert',
  'conversion',
  'copy',
  'memory',
  'jobs',
  'crash',
  'planning',
  'finalize',
  'reading',
  'scrape',
];

test('every benchmark runs to its end in the quick form, and its numbers are numbers', async (t) => {
  const out = join(await temporaryFolder(t), 'results.json');
  await run(process.execPath, [bench, ...NAMES, '--quick', '--out', out]);
  const { machine, results } = JSON.parse(await readFile(out, 'utf8')) as Saved;
  t.deepEqual(Object.keys(results), NAMES);
  for (const key of ['cpus', 'model', 'memoryGB', 'system', 'node', 'ffmpeg']) t.truthy(machine[key], key);
  for (const [name, result] of Object.entries(results)) {
    for (const row of [result].flat() as Record<string, unknown>[]) {
      for (const [key, value] of Object.entries(row)) {
        // NaN is null in JSON; of ended children only Linux tells the CPU
        if (value === null && key === 'cpu' && process.platform !== 'linux') continue;
        if (typeof value === 'number') t.true(value >= 0, `${name}.${key} is ${value}`);
        else
          t.true(
            typeof value === 'string' || typeof value === 'boolean',
            `${name}.${key} is ${String(value)}`,
          );
      }
    }
  }
});

test('a saved run is compared number by number, and what is new in this one is left out', (t) => {
  const before = { results: { convert: [{ wall: 2, what: 'h264' }], jobs: [{ jobs: 10 }] } };
  const now = { results: { convert: [{ wall: 1, what: 'h264' }], jobs: [{ jobs: 10 }], crash: { ms: 5 } } };
  t.deepEqual(changes(before, now), [{ where: 'convert.0.wall', before: 2, now: 1, ratio: 0.5 }]);
});

test('an unknown benchmark is wrong use, and the known ones are named', async (t) => {
  const error = await t.throwsAsync<Error & { code?: unknown; stderr?: unknown }>(
    run(process.execPath, [bench, 'speed']),
  );
  t.is(error?.code, 2);
  t.regex(String(error?.stderr), /convert, .*found speed/);
});
