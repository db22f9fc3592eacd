import './node-version.mjs';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setUp } from './setup.mjs';
import { fail, projectRoot, say } from './steps.mjs';
import { retell, tapReader } from './tap.mjs';

/**
 * `npm test [-- PATH…]`: sets the machine up, builds, runs the tests (all, or those of the given source files or
 * folders) against a Redis of their own, and closes with `N passed, N failed`. The exit status is AVA's.
 */
async function main() {
  const { startRedis } = await setUp({ optional: ['promtool', 'curl', 'pip', 'chromium'] });
  const redis = await startRedis();
  try {
    process.exitCode = await runTests(process.argv.slice(2).map(compiled), {
      REDIS_URL: redis.url,
      ROBOFLOW_SETUP: 'done',
    });
  } finally {
    await redis.stop();
  }
}

/** `test/a/b.test.ts` → `dist/test/a/b.test.js`; folders, options and compiled paths likewise. */
function compiled(argument) {
  if (argument.startsWith('-')) return argument;
  const path = argument.replace(/^\.\//, '').replace(/\.ts$/, '.js');
  return path.startsWith('dist/') || !path.startsWith('test') ? path : `dist/${path}`;
}

function runTests(args, env) {
  const color = process.stdout.isTTY === true && !process.env.NO_COLOR;
  const reader = tapReader({ color });
  const ava = join(projectRoot, 'node_modules', 'ava', 'entrypoints', 'cli.mjs');
  const child = spawn(process.execPath, [ava, '--tap', ...args], {
    cwd: projectRoot,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  createInterface({ input: child.stdout }).on('line', (text) => {
    const line = reader.line(text);
    if (line !== undefined) say(line);
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      const { counts, failures } = reader;
      // A run that ended badly without a failed test (no files, killed, crashed) must not look like a good one.
      if (!reader.ended() || (code !== 0 && counts.failed === 0)) {
        counts.failed++;
        failures.push({
          title: `the test runner ended early, with ${signal || `status ${code}`}`,
          details: [],
        });
      }
      if (failures.length > 0) say(['\nfailed:', ...retell(failures)].join('\n'));
      const skipped = counts.skipped > 0 ? `, ${counts.skipped} skipped` : '';
      say(`\n${counts.passed} passed, ${counts.failed} failed${skipped}`);
      resolve(code === null || (code === 0 && counts.failed > 0) ? 1 : code);
    });
  });
}

main().catch((error) => {
  fail(error);
  say('\n0 passed, 1 failed');
});
