import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';

/** A service running as its own process: primary and workers, as `npm start` runs it. */
export type RunningService = {
  readonly url: string;
  readonly process: ChildProcess;
  /** Everything it logged so far. */
  log(): string;
  get<T = unknown>(path: string): Promise<{ status: number; body: T; text: string }>;
  post<T = unknown>(path: string, body: unknown): Promise<{ status: number; body: T; text: string }>;
  /** Pids of the worker processes. */
  workers(): Promise<number[]>;
  /** Sends a signal, to its group where it leads one, and resolves with the exit code (or the signal that ended it). */
  end(signal?: NodeJS.Signals): Promise<number | string | null>;
};

/** What a service ends with: a test, or a benchmark that plays one. */
export type Owner = Pick<ExecutionContext, 'teardown' | 'passed'> & { log(text: string): void };

/** Starts the compiled service on a free port and waits until it is ready; it ends with the test. */
export async function startService(
  t: Owner,
  env: Readonly<Record<string, string>>,
  options: {
    readonly waitFor?: string;
    /** Words before the command, of a program that runs it as its child: an init. */
    readonly under?: readonly string[];
    /** Leads a process group of its own, as a command does that was started at a terminal. */
    readonly group?: boolean;
  } = {},
): Promise<RunningService> {
  const { under = [], group = false } = options;
  const command = [...under, process.execPath, join(process.cwd(), 'dist/src/main.js')];
  const [program, ...words] = command as [string, ...string[]];
  const child = spawn(program, words, {
    env: { PATH: process.env['PATH'] ?? '', HTTP_PORT: '0', LOG_LEVEL: 'info', LOG_FORMAT: 'json', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: group,
  });
  let log = '';
  child.stdout.on('data', (data: Buffer) => (log += data.toString()));
  child.stderr.on('data', (data: Buffer) => (log += data.toString()));
  const ended = once(child, 'exit') as Promise<[number | null, NodeJS.Signals | null]>;
  t.teardown(async () => {
    if (child.exitCode === null && child.signalCode === null) {
      for (const pid of under.length === 0 ? [] : await childrenOf(child.pid ?? 0))
        process.kill(pid, 'SIGKILL');
      child.kill('SIGKILL');
    }
    await ended;
    if (!t.passed)
      t.log(
        log
          .split('\n')
          .filter((line) => !line.includes('"msg":"request"'))
          .slice(-40)
          .join('\n'),
      );
  });
  const port = await until(
    () => /"port":(\d+)/.exec(log)?.[1],
    () => child.exitCode !== null && `the service ended with ${child.exitCode}:\n${log}`,
  );
  const url = `http://127.0.0.1:${port}`;
  const request = async <T>(path: string, init?: RequestInit) => {
    const response = await fetch(`${url}${path}`, init);
    const text = await response.text();
    const json = response.headers.get('content-type')?.includes('json') ?? false;
    return { status: response.status, text, body: (json ? JSON.parse(text) : undefined) as T };
  };
  const service: RunningService = {
    url,
    process: child,
    log: () => log,
    get: (path) => request(path),
    post: (path, body) =>
      request(path, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      }),
    async workers() {
      const pid = child.pid ?? 0;
      const [primary = 0] = under.length === 0 ? [pid] : await childrenOf(pid);
      return await childrenOf(primary);
    },
    async end(signal = 'SIGTERM') {
      if (group) process.kill(-(child.pid ?? 0), signal);
      else child.kill(signal);
      const [code, by] = await ended;
      return code ?? by;
    },
  };
  await untilAsync(
    async () => (await service.get(options.waitFor ?? '/readyz')).status === 200,
    () => child.exitCode !== null && `the service ended with ${child.exitCode}:\n${log}`,
  );
  return service;
}

/** Pids of the direct children of a process. */
export async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
  return text.split(' ').filter(Boolean).map(Number);
}

/** Those children of a worker that write a video; the others only ask FFmpeg what it can do, and end by themselves. */
export async function encodersOf(pid: number): Promise<number[]> {
  const children = await childrenOf(pid);
  const commands = await Promise.all(
    children.map((child) => readFile(`/proc/${child}/cmdline`, 'utf8').catch(() => '')),
  );
  return children.filter((_, i) => commands[i]?.includes('.mp4\0'));
}

const LIMIT_MS = 150_000;

/** Looks every 20 ms until there is a value; fails after a while, or with the sentence `broken` gives. */
export async function until<T>(
  look: () => T | undefined,
  broken: () => string | false = () => false,
): Promise<T> {
  return untilAsync(async () => look(), broken);
}

/** As `until`, for a look that takes time; `false` counts as nothing yet. */
export async function untilAsync<T>(
  look: () => Promise<T | undefined | false>,
  broken: () => string | false = () => false,
  limitMs = LIMIT_MS,
): Promise<T> {
  const deadline = Date.now() + limitMs;
  for (;;) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    const sentence = broken();
    if (sentence) throw new Error(sentence);
    if (Date.now() > deadline) throw new Error(`nothing came within ${limitMs / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
