/**
 * Runs one program and takes it down with the process that asked for it, however that one ends: the asker holds the
 * other end of this process' standard input, and the kernel closes it even after a kill -9. Usage:
 * `node keeper.mjs GRACE_MS FOLDER COMMAND ARG…`. FOLDER ('' for none) is removed at the end.
 */
import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { constants } from 'node:os';

const [graceMs, folder, command, ...args] = process.argv.slice(2);
// A process group of its own: Ctrl+C in the terminal must not reach it before its owner has decided what to do.
const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit'], detached: true });

let deadline;
function stop() {
  if (deadline !== undefined || child.pid === undefined) return;
  child.kill('SIGTERM');
  deadline = setTimeout(killGroup, Number(graceMs));
}

function killGroup() {
  const group = child.pid;
  if (group === undefined) return;
  try {
    process.kill(-group, 'SIGKILL');
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

function finish(status) {
  if (folder !== '') rmSync(folder, { recursive: true, force: true });
  process.exit(status);
}

child.once('error', (error) => {
  process.stderr.write(`${command} could not be started: ${error.message}\n`);
  finish(127);
});
child.once('exit', (code, signal) => {
  killGroup();
  finish(code === null ? 128 + constants.signals[signal] : code);
});
process.stdin.on('close', stop);
process.stdin.on('error', stop);
process.stdin.resume();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, stop);
// The asker may be gone, and with it the reader of our output.
for (const stream of [process.stdout, process.stderr]) stream.on('error', stop);
