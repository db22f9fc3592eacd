import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import sharp from 'sharp';
import { temporaryFolder } from '../helpers/conversion.ts';
import { until } from '../helpers/service.ts';

/** The demo as `npm run demo` runs it, in a folder of the test's and with a private Redis. */

const demo = fileURLToPath(new URL('../../../deploy/local/demo.mjs', import.meta.url));

function startDemo(folder: string): { child: ChildProcess; said: () => string; ended: Promise<unknown[]> } {
  const { REDIS_URL: _, ...env } = process.env;
  const child = spawn(process.execPath, [demo, folder], {
    env: { ...env, ROBOFLOW_SETUP: 'done' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => (said += String(chunk)));
  return { child, said: () => said, ended: once(child, 'exit') };
}

const answers = (url: string) =>
  fetch(`${url}/livez`).then(
    () => true,
    () => false,
  );

test.serial('the demo leaves a verified dataset and its picture, and nothing that runs', async (t) => {
  t.timeout(300_000);
  const folder = await temporaryFolder(t);
  const { said, ended } = startDemo(folder);
  t.is((await ended)[0], 0, said());
  t.regex(said(), /completed: 3 of 3 episodes, \d+ frames/);
  t.regex(said(), /verified: \d+ checks of the dataset passed/);
  t.regex(said(), /roboflow_episodes_processed_total\{dataset_id="demo",status="completed"\} 3/);
  t.deepEqual((await readdir(folder)).toSorted(), [
    'contact-sheet.png',
    'dataset',
    'demo.yaml',
    'recordings',
    'service.log',
  ]);
  const { width, height } = await sharp(join(folder, 'contact-sheet.png')).metadata();
  t.true(width > 1000 && height > 800, `${width}x${height}`);
  t.true(existsSync(join(folder, 'dataset', 'meta', 'info.json')));
  t.false(await answers(/http:\/\/127\.0\.0\.1:\d+/.exec(said())?.[0] ?? ''));
});

for (const signal of ['SIGINT', 'SIGKILL'] as const) {
  test.serial(`a demo that ends by ${signal} takes everything down that it started`, async (t) => {
    t.timeout(300_000);
    const folder = await temporaryFolder(t);
    const { child, said, ended } = startDemo(folder);
    const url = await until(
      () => /the service runs at (\S+):/.exec(said())?.[1],
      () => child.exitCode !== null && said(),
    );
    t.true(await answers(url));
    child.kill(signal);
    const [code, by] = await ended;
    t.deepEqual([code, by], signal === 'SIGINT' ? [130, null] : [null, 'SIGKILL']);
    if (signal === 'SIGINT') {
      t.regex(said(), /stopped; everything that ran was taken down/);
      t.false(await answers(url));
      t.false(existsSync(join(folder, 'work')));
    }
    while (await answers(url)) await pause(100);
    t.regex(await readFile(join(folder, 'service.log'), 'utf8'), /drain/);
  });
}
