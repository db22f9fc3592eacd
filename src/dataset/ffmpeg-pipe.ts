import type { ChildProcess } from 'node:child_process';
import { asCanceled, EncodeError, throwIfAborted } from '../errors.ts';
import { FfmpegLog, findFfmpeg, startFfmpeg } from './ffmpeg.ts';

/** Bytes that may wait for the program before `write` stops resolving at once. */
const QUEUE_BYTES = 4 << 20;

/** One FFmpeg program with a pipe in: what is written to it, and how it ended. */
export class FfmpegPipe {
  readonly log = new FfmpegLog();
  readonly child: ChildProcess;
  readonly #where: string;
  readonly #ended: Promise<Error | undefined>;
  #failure: Error | undefined;

  private constructor(child: ChildProcess, where: string, signal: AbortSignal) {
    this.child = child;
    this.#where = where;
    child.stderr?.setEncoding('utf8').on('data', (text: string) => this.log.push(text));
    // A broken pipe is explained by the program's end, below.
    child.stdin?.on('error', () => {});
    this.#ended = new Promise((resolve) => {
      child.once('error', (cause) => {
        // One that is killed for the signal tells its end.
        if (child.pid === undefined) resolve(new EncodeError(`${where}: FFmpeg did not start`, { cause }));
      });
      child.once('close', (code, killedBy) => {
        if (code === 0) resolve(undefined);
        else if (signal.aborted) resolve(asCanceled(signal.reason));
        else resolve(new EncodeError(`${where} ended with ${killedBy ?? `code ${code}`}: ${this.log.tail}`));
      });
    });
    void this.#ended.then((error) => (this.#failure = error));
  }

  /** Starts the program; `where` names its work in messages. Its output, if any, is on standard output. */
  static async start(
    where: string,
    args: readonly string[],
    options: { readonly signal: AbortSignal; readonly ffmpeg?: string | undefined; readonly output: boolean },
  ): Promise<FfmpegPipe> {
    throwIfAborted(options.signal);
    const ffmpeg = await findFfmpeg(options.ffmpeg);
    const level = ['-hide_banner', '-nostats', '-loglevel', 'level+error', '-y'];
    const child = startFfmpeg(ffmpeg, [...level, ...args], {
      stdio: ['pipe', options.output ? 'pipe' : 'ignore', 'pipe'],
      signal: options.signal,
    });
    return new FfmpegPipe(child, where, options.signal);
  }

  /** Writes; resolves when there is room for more. Throws what ended the program. */
  async write(...parts: readonly Uint8Array[]): Promise<void> {
    const { stdin } = this.child;
    if (this.#failure) throw this.#failure;
    if (!stdin) return;
    // The parts leave in one system call.
    stdin.cork();
    for (const part of parts) stdin.write(part);
    process.nextTick(() => stdin.uncork());
    if (stdin.writableLength > QUEUE_BYTES) {
      const drained = new Promise((resolve) => stdin.once('drain', resolve));
      await Promise.race([drained, this.#ended]);
    }
    if (this.#failure) throw this.#failure;
  }

  /** Ends the input and waits for the program. Throws what went wrong. */
  async finish(): Promise<void> {
    this.child.stdin?.end();
    const error = await this.#ended;
    if (error) throw error;
    if (this.log.tail !== '') throw new EncodeError(`${this.#where}: ${this.log.tail}`);
  }

  async abort(): Promise<void> {
    this.child.kill('SIGKILL');
    await this.#ended;
  }
}
