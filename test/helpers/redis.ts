import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { freePorts } from './ports.ts';

/** The kernel kills the server with the test's thread, so that a test run that is killed leaves none behind. */
const leash =
  process.platform === 'linux' && existsSync('/usr/bin/setpriv')
    ? ['/usr/bin/setpriv', '--pdeathsig', 'KILL', '--']
    : [];

/** A Redis server of the test's own, on a free port, that it may kill, stop and start again. */
export class PrivateRedis {
  readonly url: string;
  readonly #port: number;
  readonly #folder: string;
  readonly #extra: readonly string[];
  #child: ChildProcess | undefined;

  private constructor(port: number, folder: string, extra: readonly string[]) {
    this.url = `redis://127.0.0.1:${port}`;
    this.#port = port;
    this.#folder = folder;
    this.#extra = extra;
  }

  /** Starts `redis-server` with append-only file and `noeviction` unless `extra` says otherwise. */
  static async start(extra: readonly string[] = []): Promise<PrivateRedis> {
    const folder = await mkdtemp(join(tmpdir(), 'roboflow-redis-'));
    const [port = 0] = await freePorts(1);
    const redis = new PrivateRedis(port, folder, extra);
    await redis.resume();
    return redis;
  }

  /** Starts the server on its old data. */
  async resume(): Promise<void> {
    const args = ['--port', String(this.#port), '--bind', '127.0.0.1', '--dir', this.#folder];
    const policy = ['--appendonly', 'yes', '--save', '', '--maxmemory-policy', 'noeviction', ...this.#extra];
    const [program, ...rest] = [...leash, 'redis-server', ...args, ...policy] as [string, ...string[]];
    this.#child = spawn(program, rest, { stdio: 'ignore' });
    const client = new Redis(this.url, {
      lazyConnect: true,
      maxRetriesPerRequest: null,
      retryStrategy: () => 20,
    });
    client.on('error', () => undefined);
    await client.connect().catch(() => undefined);
    await client.ping();
    client.disconnect();
  }

  /** kill -9. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  }

  /** SIGSTOP and SIGCONT: connections stay, answers do not come. */
  freeze(): void {
    this.#child?.kill('SIGSTOP');
  }
  thaw(): void {
    this.#child?.kill('SIGCONT');
  }

  async end(): Promise<void> {
    this.thaw();
    await this.kill();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

/** A Redis for tests that leave it alone: that of `REDIS_URL`, else a private one. */
export async function sharedRedis(): Promise<{ url: string; end(): Promise<void> }> {
  const url = process.env['REDIS_URL'];
  return url ? { url, end: () => Promise.resolve() } : await PrivateRedis.start();
}

/** A queue prefix nobody else has. */
export function randomPrefix(): string {
  return `{test-${randomUUID()}}`;
}

/** Removes everything under a prefix. */
export async function removePrefix(url: string, prefix: string): Promise<void> {
  const redis = new Redis(url);
  for await (const keys of redis.scanStream({
    match: `${prefix.replaceAll(/[{}[\]*?]/g, '?')}*`,
    count: 1000,
  })) {
    const list = keys as string[];
    if (list.length > 0) await redis.unlink(...list);
  }
  redis.disconnect();
}
