import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** What the set-up scripts share: where the project is, how they speak, how they run a program. */

/** Absolute path of the checkout, without trailing slash. */
export const projectRoot = fileURLToPath(new URL('../..', import.meta.url)).replace(/[\\/]$/, '');

/** A condition of this machine that its owner must change; the message is the whole story, no stack is shown. */
export class SetupError extends Error {}

/** One line to the person in front of the terminal. */
export function say(line) {
  process.stdout.write(`${line}\n`);
}

/**
 * Runs a program to its end without input; resolves with its standard output.
 * Rejects when it cannot be started, ends with another status than 0, or runs longer than `timeoutMs` (then it is killed),
 * with the first and last lines it printed; with `whole`, all of them.
 */
export function run(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd || projectRoot,
      env: { ...process.env, ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: options.timeoutMs,
      killSignal: 'SIGKILL',
    });
    let stdout = '';
    let both = '';
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
      both += chunk;
    });
    child.stderr.on('data', (chunk) => {
      both += chunk;
    });
    child.once('error', (cause) => reject(new Error(`${command} could not be started`, { cause })));
    child.once('close', (code, signal) => {
      if (code === 0) {
        resolve(stdout);
        return;
      }
      const said = both.trim().split('\n');
      // Some tools name the fault first and end with advice, others end with the fault.
      const shown =
        said.length > 30 && !options.whole ? [...said.slice(0, 12), '  …', ...said.slice(-12)] : said;
      reject(
        new Error(
          `${command} ${args.join(' ')} ended with ${signal || `status ${code}`}:\n${shown.join('\n')}`,
        ),
      );
    });
  });
}

/** Ends the script over an error: one sentence for a `SetupError`, everything known for a fault of ours. */
export function fail(thrown) {
  if (thrown instanceof SetupError) process.stderr.write(`\n${thrown.message}\n`);
  else process.stderr.write(`\n${thrown instanceof Error ? describe(thrown) : String(thrown)}\n`);
  process.exitCode = 1;
}

function describe(error) {
  const own = error.stack || error.message;
  return error.cause instanceof Error ? `${own}\ncaused by: ${describe(error.cause)}` : own;
}
