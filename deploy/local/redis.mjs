import { randomInt } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SetupError } from './steps.mjs';
import { startKept } from './kept-process.mjs';

/** Redis for the demo and the tests. Needs the dependencies only once a function is called. */

/**
 * Whether the Redis at `url` answers and is new enough (6.2): undefined when it does, else what is wrong in one sentence
 * that does not repeat credentials.
 */
export async function redisFault(url) {
  const { Redis } = await import('ioredis');
  let client;
  try {
    client = new Redis(url, {
      lazyConnect: true,
      connectTimeout: 3000,
      commandTimeout: 3000,
      maxRetriesPerRequest: 0,
      retryStrategy: () => null,
    });
  } catch (error) {
    return `REDIS_URL is no Redis address: ${error.message}`;
  }
  let last;
  client.on('error', (error) => {
    last = error;
  });
  try {
    await client.connect();
    const version = /redis_version:(\d+)\.(\d+)/.exec(await client.info('server'));
    const number = version ? Number(version[1]) + Number(version[2]) / 100 : 0;
    return number >= 6.02
      ? undefined
      : `the Redis at REDIS_URL is version ${version ? `${version[1]}.${version[2]}` : 'unknown'}, 6.2 or newer is needed`;
  } catch (error) {
    return `the Redis at REDIS_URL does not answer (${(last || error).message})`;
  } finally {
    client.disconnect();
  }
}

/** Removes every key of a queue prefix, for a run that used somebody's own Redis. */
export async function removeKeys(url, prefix) {
  const { Redis } = await import('ioredis');
  const client = new Redis(url, { maxRetriesPerRequest: 1 });
  try {
    const pattern = `${prefix.replace(/[[\]*?\\]/g, '\\$&')}*`;
    for await (const keys of client.scanStream({ match: pattern, count: 500 })) {
      if (keys.length > 0) await client.unlink(...keys);
    }
  } finally {
    client.disconnect();
  }
}

/**
 * Starts a private Redis with `program` (path of redis-server or valkey-server): loopback only, a free port, append-only,
 * noeviction, data in a temporary folder. It ends with `stop()`, and soon after this process however that ends.
 */
export async function startPrivateRedis(program) {
  let server;
  for (let attempt = 0; attempt < 3; attempt++) {
    const port = await freePort();
    const folder = mkdtempSync(join(tmpdir(), 'roboflow-redis-'));
    const options = `--bind 127.0.0.1 --port ${port} --daemonize no --appendonly yes --maxmemory-policy noeviction`;
    server = startKept(program, [...options.split(' '), '--save', '', '--dir', folder], { folder });
    if (await answers(server, port)) {
      return { url: `redis://127.0.0.1:${port}`, port, stop: server.stop, exited: server.exited };
    }
    await server.stop();
  }
  throw new SetupError(`A private Redis could not be started with ${program}:\n${server.tail().trim()}`);
}

/**
 * A TCP port of the loopback that nobody listens on. Below those that systems hand out by themselves, so that no
 * connection that begins meanwhile takes it.
 */
export async function freePort() {
  for (;;) {
    const probe = createServer();
    const port = randomInt(12_000, 32_000);
    const free = await new Promise((resolve, reject) => {
      probe.once('error', (error) => (error.code === 'EADDRINUSE' ? resolve(false) : reject(error)));
      probe.listen(port, '127.0.0.1', () => probe.close(() => resolve(true)));
    });
    if (free) return port;
  }
}

async function answers(server, port) {
  const deadline = Date.now() + 10_000;
  while (Date.now() < deadline && server.status() === undefined) {
    if (await ping(port)) return true;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return false;
}

function ping(port) {
  return new Promise((resolve) => {
    const socket = createConnection({ port, host: '127.0.0.1' });
    const end = (answer) => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(1000, () => end(false));
    socket.once('error', () => end(false));
    socket.once('connect', () => socket.write('PING\r\n'));
    socket.once('data', (data) => end(String(data).startsWith('+PONG')));
  });
}
