import { execFile, spawnSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';

const run = promisify(execFile);

/** Chromium, when there is one (Debian: apt-get install chromium). */
export const browser = ['chromium', 'chromium-browser', 'google-chrome'].find(
  (program) => spawnSync('sh', ['-c', `command -v ${program}`]).status === 0,
);

/** What a page looks like in the browser (path of a PNG) and the document its scripts have made of it. */
export async function openPage(t: ExecutionContext, url: string, size: { width: number; height: number }) {
  const folder = await mkdtemp(join(tmpdir(), 'roboflow-browser-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const shot = join(folder, 'page.png');
  const { stdout } = await run(
    browser ?? '',
    [
      '--headless',
      '--no-sandbox',
      '--disable-gpu',
      '--hide-scrollbars',
      // The clock of the page runs ahead until its requests are answered and drawn.
      '--virtual-time-budget=15000',
      `--user-data-dir=${folder}`,
      `--window-size=${size.width},${size.height}`,
      `--screenshot=${shot}`,
      '--dump-dom',
      url,
    ],
    { maxBuffer: 64 << 20 },
  );
  return { shot, document: stdout };
}
