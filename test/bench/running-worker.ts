import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { workerFlags } from '../../src/cluster/fleet.ts';
import type { ChildResult } from '../helpers/convert-child.ts';
import { cpuOf } from './measure.ts';

/** A process with the flags of a worker that lives on between its conversions. */
export class RunningWorker {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: AsyncIterator<string>;
  readonly #closed: Promise<unknown>;

  private constructor(child: ChildProcessByStdio<Writable, Readable, null>, lines: Interface) {
    this.#child = child;
    this.#lines = lines[Symbol.asyncIterator]();
    this.#closed = once(child, 'close');
    // A pipe that broke is told by the missing line.
    child.stdin.on('error', () => undefined);
  }

  static start(config: object, out: string): RunningWorker {
    const child = fileURLToPath(new URL('../helpers/convert-child.js', import.meta.url));
    const args = [...process.execArgv, ...workerFlags, child, JSON.stringify(config), out];
    const started = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    return new RunningWorker(started, createInterface({ input: started.stdout }));
  }

  /** Converts one recording. */
  async convert(recording: string): Promise<ChildResult> {
    this.#child.stdin.write(`${recording}\n`);
    const { value, done } = await this.#lines.next();
    if (done) throw new Error('the worker ended');
    return JSON.parse(value) as ChildResult;
  }

  /** CPU seconds of it and of the encoders that have ended. */
  async cpu(): Promise<number> {
    return await cpuOf(this.#child.pid ?? 0, ['utime', 'stime', 'cutime', 'cstime']);
  }

  async end(): Promise<void> {
    this.#child.stdin.end();
    await this.#closed;
  }
}
