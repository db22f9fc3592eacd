import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import test from 'ava';
import {
  adoptCheckpoint,
  commandFolder,
  createAttempt,
  sweepScratch,
} from '../../src/conversion/checkpoint.ts';
import { compareKeys } from '../../src/storage/keys.ts';
import { temporaryFolder } from '../helpers/conversion.ts';

const onLinux = process.platform === 'linux' ? test : test.skip;

onLinux('an attempt of a process that had the same number is none of the one that has it now', async (t) => {
  const root = await temporaryFolder(t);
  const own = basename(await createAttempt(join(root, 'job')));
  const parts = own.split('-');
  t.is(parts[1], String(process.pid));
  await mkdir(join(root, 'job', [parts[0], parts[1], '1', parts[3]].join('-')));
  t.is(await sweepScratch(root), 1);
  t.deepEqual(await readdir(join(root, 'job')), [own]);
});

onLinux('what a command that was killed left goes, what a running one works on stays', async (t) => {
  const root = await temporaryFolder(t);
  const running = join(root, commandFolder(process.pid));
  const [converting, publishing] = [
    await createAttempt(join(running, 'run_1')),
    await createAttempt(running),
  ];
  const dead = basename(converting).replace(/^attempt-(\d+)-\d+-/, 'attempt-$1-1-');
  await mkdir(join(root, commandFolder(1), 'run_1', dead), { recursive: true });
  await mkdir(join(root, commandFolder(1), dead));
  t.is(await sweepScratch(root), 2);
  t.deepEqual(await readdir(root), [basename(running)]);
  const kept = [basename(publishing), join('run_1', basename(converting)), 'run_1'];
  t.deepEqual(
    (await readdir(running, { recursive: true })).toSorted(compareKeys),
    kept.toSorted(compareKeys),
  );
});

test('a checkpoint that cannot be read counts as none, and goes', async (t) => {
  for (const text of ['', '{"manifest":{"version":0},"files":{}}']) {
    const scratch = await temporaryFolder(t);
    await mkdir(join(scratch, 'attempt-0-x'));
    await writeFile(join(scratch, 'attempt-0-x', 'checkpoint.json'), text);
    t.is(await adoptCheckpoint(scratch, () => true), undefined);
    t.deepEqual(await readdir(scratch), []);
  }
});
