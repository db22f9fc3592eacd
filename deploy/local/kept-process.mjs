import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const keeper = fileURLToPath(new URL('./keeper.mjs', import.meta.url));

/**
 * Starts a program that cannot outlive this process (see `keeper.mjs`). `exited` resolves with its exit status (128 + n
 * after signal n); `stop()` sends SIGTERM, after `graceMs` SIGKILL to its whole group, and resolves when it is gone and
 * `folder` removed. `output` is a file descriptor, or absent for a pipe that is read into `tail()` (its last 4 kB).
 */
export function startKept(command, args, { env, cwd, graceMs = 5000, folder = '', output } = {}) {
  const stream = output === undefined ? 'pipe' : output;
  const child = spawn(process.execPath, [keeper, String(graceMs), folder, command, ...args], {
    stdio: ['pipe', stream, stream],
    detached: true,
    env: env || process.env,
    cwd,
  });
  let text = '';
  for (const pipe of [child.stdout, child.stderr]) {
    if (pipe) {
      pipe.on('data', (chunk) => {
        text = (text + chunk).slice(-4096);
      });
    }
  }
  let status;
  const exited = new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      status = code === null ? signal : code;
      resolve(status);
    });
  });
  // The pipe breaks when the keeper ends first; `exited` is where that is noticed.
  child.stdin.on('error', () => undefined);
  return {
    exited,
    status: () => status,
    tail: () => text,
    stop: () => {
      child.stdin.end();
      return exited;
    },
  };
}
