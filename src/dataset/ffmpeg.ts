import { type ChildProcess, execFile, spawn, type StdioOptions } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { promisify } from 'node:util';
import { asCanceled, EncodeError } from '../errors.ts';

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
  /** Names of the video encoders it was built with. */
  readonly encoders: ReadonlySet<string>;
  /** Whether it has the filter `zscale`, which most builds have. */
  readonly zscale: boolean;
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

/**
 * `setpriv --pdeathsig` (util-linux) lets the kernel kill the child when its parent dies, however it dies. Without it
 * the child still ends by itself: its standard input closes.
 */
const LEASH = process.platform === 'linux' ? ['setpriv', '--pdeathsig', 'KILL', '--'] : [];

/** One run of the program tells everything: its version, encoders, filters, and whether the leash holds it. */
async function lookFor(path: string): Promise<Ffmpeg> {
  const { output, leash } = await ask(path);
  const version = /^ffmpeg version (\S+)/m.exec(output)?.[1] ?? 'unknown';
  const numbers = /(\d+)\.(\d+)/.exec(version);
  const old = numbers !== null && (Number(numbers[1]) < 5 || (numbers[1] === '5' && numbers[2] === '0'));
  return {
    path,
    version: `ffmpeg ${version}`,
    leash,
    syncOption: old ? '-vsync' : '-fps_mode',
    encoders: new Set([...output.matchAll(/^ V\S{5} (\S+)/gm)].map((match) => match[1] ?? '')),
    zscale: / --enable-libzimg\b/.test(output),
  };
}

async function ask(path: string): Promise<{ output: string; leash: readonly string[] }> {
  const [program, ...words] = LEASH;
  if (program !== undefined) {
    try {
      return { output: await listing(program, [...words, path]), leash: LEASH };
    } catch {
      // Not installed, or a variant without the option; or the program itself is at fault, which shows next.
    }
  }
  try {
    return { output: await listing(path, []), leash: [] };
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    const what = missing
      ? `the program "${path}" was not found on PATH`
      : `the program "${path}" did not run`;
    throw new EncodeError(`videos need FFmpeg, but ${what}: ${HOW_TO_INSTALL}`, { cause });
  }
}

/** The banner, which names version and libraries, and the encoders. */
async function listing(program: string, words: readonly string[]): Promise<string> {
  const { stdout, stderr } = await run(program, [...words, '-encoders']);
  return `${stderr}\n${stdout}`;
}

/** Nice value of encoders: where all cores are taken, a process at 0 gets three turns for one of theirs. */
const NICE = 5;

/**
 * Starts the program; it dies with this process, and at once when `signal` is aborted. In a session of its own, as Ctrl+C
 * reaches every process of the terminal's group, and would cut the video of a conversion that may end first. It yields to
 * this process, which has little to do but must do it in time: renew its lock, answer, feed all encoders.
 */
export function startFfmpeg(
  ffmpeg: Ffmpeg,
  args: readonly string[],
  options: { stdio: StdioOptions; signal?: AbortSignal; cwd?: string },
): ChildProcess {
  const [program, ...rest] = [...ffmpeg.leash, ffmpeg.path, ...args] as [string, ...string[]];
  const child = spawn(program, rest, {
    stdio: options.stdio,
    detached: true,
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.signal ? { signal: options.signal, killSignal: 'SIGKILL' } : {}),
  });
  if (child.pid !== undefined) yieldCpu(child.pid);
  return child;
}

/** The exit code of a started program. Throws what stopped it, or that it did not start. */
export function exitOf(child: ChildProcess, signal: AbortSignal): Promise<number | null> {
  return new Promise((resolve, reject) => {
    child.once('error', (cause) =>
      reject(signal.aborted ? asCanceled(signal.reason) : new EncodeError('FFmpeg did not start', { cause })),
    );
    child.once('close', resolve);
  });
}

/** Threads take over the value when they are created, so this comes before the program has any. */
function yieldCpu(pid: number): void {
  try {
    setPriority(pid, NICE);
    // Outside of containers Linux shares cores among sessions first, and a process's own value counts within its session.
    if (process.platform === 'linux') writeFileSync(`/proc/${pid}/autogroup`, String(NICE));
  } catch {
    // It has ended already, or the system does not let us: then it runs like any other program.
  }
}

/**
 * Collects what the program says on standard error (run with `-loglevel level+verbose`): the last complaints, for
 * messages, and what its filters counted.
 */
export class FfmpegLog {
  #line = '';
  readonly #complaints: string[] = [];
  #duplicated = 0;
  #dropped = 0;
  #shown = 0;

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
    const counts = /(\d+) frames out; (\d+) frames dropped, (\d+) frames duplicated/.exec(line);
    if (!counts) return;
    this.#shown += Number(counts[1]);
    this.#dropped += Number(counts[2]);
    this.#duplicated += Number(counts[3]);
  }

  /** The last complaints, newest last; '' when there were none. */
  get tail(): string {
    return [...this.#complaints, this.#line].filter((line) => line.trim() !== '').join('; ');
  }

  /** Pictures that did not decode and were replaced by the picture before them. */
  get duplicated(): number {
    return this.#duplicated;
  }

  /** Frames on the grid. */
  get shown(): number {
    return this.#shown;
  }

  /** Pictures that another one of the same frame took the place of. */
  get dropped(): number {
    return this.#dropped;
  }
}
