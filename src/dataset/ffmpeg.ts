import { type ChildProcess, execFile, spawn, type StdioOptions } from 'node:child_process';
import { promisify } from 'node:util';
import { EncodeError } from '../errors.ts';

const run = promisify(execFile);

/** The FFmpeg program of this machine. */
export type Ffmpeg = {
  readonly path: string;
  /** First line of `ffmpeg -version`, shortened: `ffmpeg 5.1.9-0+deb12u1`. */
  readonly version: string;
  /** Words before the program's own arguments that make it die with the process that started it. */
  readonly leash: readonly string[];
  /** The option that keeps the filter's timestamps: `-fps_mode` since 5.1, `-vsync` before. */
  readonly syncOption: '-fps_mode' | '-vsync';
};

const found = new Map<string, Promise<Ffmpeg>>();

const HOW_TO_INSTALL =
  'install it (Debian and Ubuntu: apt-get install ffmpeg; macOS: brew install ffmpeg; Windows: winget install ffmpeg)';

/**
 * Looks for the program once and remembers what was found. Throws `EncodeError` when it is absent or does not run.
 * @param path name on PATH, or a path
 */
export function findFfmpeg(path = 'ffmpeg'): Promise<Ffmpeg> {
  const known = found.get(path);
  if (known) return known;
  const search = lookFor(path);
  found.set(path, search);
  search.catch(() => found.delete(path));
  return search;
}

async function lookFor(path: string): Promise<Ffmpeg> {
  let output: string;
  try {
    output = (await run(path, ['-hide_banner', '-version'])).stdout;
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    const what = missing
      ? `the program "${path}" was not found on PATH`
      : `the program "${path}" did not run`;
    throw new EncodeError(`videos need FFmpeg, but ${what}: ${HOW_TO_INSTALL}`, { cause });
  }
  const version = /^ffmpeg version (\S+)/.exec(output)?.[1] ?? 'unknown';
  const numbers = /(\d+)\.(\d+)/.exec(version);
  const old = numbers !== null && (Number(numbers[1]) < 5 || (numbers[1] === '5' && numbers[2] === '0'));
  return {
    path,
    version: `ffmpeg ${version}`,
    leash: await findLeash(),
    syncOption: old ? '-vsync' : '-fps_mode',
  };
}

/**
 * `setpriv --pdeathsig` (util-linux) lets the kernel kill the child when its parent dies, however it dies. Without it
 * the child still ends by itself: its standard input closes.
 */
async function findLeash(): Promise<readonly string[]> {
  const leash = ['setpriv', '--pdeathsig', 'KILL', '--'] as const;
  if (process.platform !== 'linux') return [];
  try {
    await run(leash[0], [...leash.slice(1), 'true']);
    return leash;
  } catch {
    // Not installed, or a variant without the option: the closing of standard input has to do.
    return [];
  }
}

/** Starts the program; it dies with this process, and at once when `signal` is aborted. */
export function startFfmpeg(
  ffmpeg: Ffmpeg,
  args: readonly string[],
  options: { stdio: StdioOptions; signal?: AbortSignal; cwd?: string },
): ChildProcess {
  const [program, ...rest] = [...ffmpeg.leash, ffmpeg.path, ...args] as [string, ...string[]];
  return spawn(program, rest, {
    stdio: options.stdio,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.signal ? { signal: options.signal, killSignal: 'SIGKILL' } : {}),
  });
}

/**
 * Collects what the program says on standard error (run with `-loglevel level+verbose`): the last complaints, for
 * messages, and what its filters counted.
 */
export class FfmpegLog {
  #line = '';
  readonly #complaints: string[] = [];
  #duplicated = 0;

  push(chunk: string): void {
    const lines = (this.#line + chunk).split(/[\r\n]+/);
    this.#line = (lines.pop() ?? '').slice(-2000);
    for (const line of lines) this.#read(line);
  }

  #read(line: string): void {
    if (/\[(error|fatal|panic)\]/.test(line) || !/\[(quiet|warning|info|verbose|debug)\]/.test(line)) {
      this.#complaints.push(line.slice(0, 400));
      if (this.#complaints.length > 12) this.#complaints.shift();
    }
    const duplicated = /(\d+) frames duplicated/.exec(line)?.[1];
    if (duplicated !== undefined) this.#duplicated += Number(duplicated);
  }

  /** The last complaints, newest last; '' when there were none. */
  get tail(): string {
    return [...this.#complaints, this.#line].filter((line) => line.trim() !== '').join('; ');
  }

  /** Pictures that did not decode and were replaced by the picture before them. */
  get duplicated(): number {
    return this.#duplicated;
  }
}
