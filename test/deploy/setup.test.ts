import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { Redis } from 'ioredis';

const local = (name: string) => fileURLToPath(new URL(`../../../deploy/local/${name}`, import.meta.url));

type PrivateRedis = { url: string; port: number; stop(): Promise<unknown> };
const redis = (await import(local('redis.mjs'))) as {
  startPrivateRedis(program: string): Promise<PrivateRedis>;
  redisFault(url: string): Promise<string | undefined>;
};
type Failure = { title: string; details: string[] };
const { retell, tapReader } = (await import(local('tap.mjs'))) as {
  retell: (failures: readonly Failure[]) => string[];
  tapReader: () => {
    counts: { passed: number; failed: number; skipped: number };
    failures: Failure[];
    ended: () => boolean;
    line(text: string): string | undefined;
  };
};
const { findProgram } = (await import(local('programs.mjs'))) as {
  findProgram: (name: string) => string | undefined;
};
const redisServer = findProgram('redis-server') ?? findProgram('valkey-server') ?? '';

type Ended = { status: number; stdout: string; stderr: string };
function node(args: string[], env: NodeJS.ProcessEnv = process.env): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(process.execPath, args, { env }, (error, stdout, stderr) => {
      resolve({ status: error === null ? 0 : Number(error.code ?? 1), stdout, stderr });
    });
  });
}

async function emptyFolder(release: (work: () => Promise<void>) => void): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'roboflow-setup-test-'));
  release(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** Resolves once nothing answers at `url`; the test's own time limit bounds the wait. */
async function gone(url: string): Promise<void> {
  while ((await redis.redisFault(url)) === undefined) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Resolves with the one folder that the Redis at `url` keeps its data in. */
async function settings(url: string): Promise<Record<string, string | undefined>> {
  const client = new Redis(url);
  try {
    const answer: Record<string, string | undefined> = {};
    for (const name of ['dir', 'bind', 'appendonly', 'maxmemory-policy']) {
      answer[name] = ((await client.config('GET', name)) as string[])[1];
    }
    return answer;
  } finally {
    client.disconnect();
  }
}

test('the private Redis listens on loopback, keeps what it is told, and leaves nothing behind', async (t) => {
  const server = await redis.startPrivateRedis(redisServer);
  t.is(await redis.redisFault(server.url), undefined);
  const { dir, ...rest } = await settings(server.url);
  t.deepEqual(rest, { bind: '127.0.0.1', appendonly: 'yes', 'maxmemory-policy': 'noeviction' });
  t.true(existsSync(dir ?? ''));
  await server.stop();
  t.regex((await redis.redisFault(server.url)) ?? '', /does not answer/);
  t.false(existsSync(dir ?? ''));
});

test('the private Redis ends by itself when its owner is killed with SIGKILL', async (t) => {
  const script = `import(${JSON.stringify(local('redis.mjs'))})
    .then(({ startPrivateRedis }) => startPrivateRedis(${JSON.stringify(redisServer)}))
    .then(({ url }) => console.log(url));`;
  const owner = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [url] = (await once(owner.stdout, 'data')).map((chunk: unknown) => String(chunk).trim());
  const { dir } = await settings(url ?? '');
  owner.kill('SIGKILL');
  await gone(url ?? '');
  while (existsSync(dir ?? '')) await new Promise((resolve) => setTimeout(resolve, 20));
  t.pass('both waits ended within the time limit of the test');
});

test('a Redis address that cannot be used is described without its password', async (t) => {
  const fault = await redis.redisFault('redis://user:secret-word@127.0.0.1:1/');
  t.regex(fault ?? '', /does not answer \(.*ECONNREFUSED/);
  t.notRegex(fault ?? '', /secret-word/);
});

test('a machine without Redis and ffmpeg gets one sentence that says what to install', async (t) => {
  const folder = await emptyFolder((work) => t.teardown(work));
  const { status, stderr } = await node([local('setup.mjs')], { PATH: folder, HOME: folder });
  t.is(status, 1);
  const sentences = stderr.trim().split('\n');
  t.is(sentences.length, 1, stderr);
  t.regex(stderr, /Redis 6\.2 or newer \(not in PATH\) and ffmpeg with the libx264 encoder \(not in PATH\)/);
  t.regex(stderr, /install/);
});

test('programs that are too old or too small are named with what is wrong with them', async (t) => {
  const folder = await emptyFolder((work) => t.teardown(work));
  await writeFile(join(folder, 'redis-server'), '#!/bin/sh\necho "Redis server v=5.0.14 sha=0"\n');
  await writeFile(join(folder, 'ffmpeg'), '#!/bin/sh\necho " V..... mpeg4  MPEG-4"\n');
  for (const name of ['redis-server', 'ffmpeg']) await chmod(join(folder, name), 0o755);
  const { status, stderr } = await node([local('setup.mjs')], { PATH: folder, HOME: folder });
  t.is(status, 1);
  t.regex(stderr, /redis-server is version 5\.0\) and .*ffmpeg was built without libx264\)/);
});

test('an old Node is told which one is needed', async (t) => {
  const pretend = "Object.defineProperty(process, 'versions', { value: { node: '18.20.4' } });";
  const { status, stderr } = await node(['-e', `${pretend} import(${JSON.stringify(local('setup.mjs'))})`]);
  t.is(status, 1);
  t.regex(stderr, /^roboflow-worker needs Node 20\.19 or newer, this is 18\.20\.4: [^\n]+\n$/);
});

test('test results are counted as the runner reported them, crashes included', (t) => {
  const reader = tapReader();
  const printed = [
    'TAP version 13',
    'ok 1 - a › holds',
    '#   a remark',
    'ok 2 - a › is left out # SKIP',
    'not ok 3 - b › breaks - loudly # with a hash',
    '  ---',
    "    message: 'expected # SKIP'",
    '  ...',
    'not ok 4 - dist/test/c.test.js exited with a non-zero exit code: 1',
    '1..4',
    '# tests 3',
  ].flatMap((line) => reader.line(line) ?? []);
  t.deepEqual(reader.counts, { passed: 1, failed: 2, skipped: 1 });
  t.deepEqual(reader.failures, [
    { title: 'b › breaks - loudly # with a hash', details: ["    message: 'expected # SKIP'"] },
    { title: 'dist/test/c.test.js exited with a non-zero exit code: 1', details: [] },
  ]);
  const told = retell([{ title: 'a', details: Array.from({ length: 100 }, (_, line) => `    ${line}`) }]);
  t.is(told.length, 61);
  t.deepEqual([told[0], told[1], told.at(-1)], ['  a', '    0', '    99']);
  t.deepEqual(printed.slice(0, 4), [
    '  ✔ a › holds',
    '    a remark',
    '  - a › is left out (skipped)',
    '  ✖ b › breaks - loudly # with a hash',
  ]);
  t.true(printed.includes("    message: 'expected # SKIP'"));
  t.false(reader.ended(), 'a runner that crashes does not get to its summary');
  reader.line('# fail 2');
  t.true(reader.ended());
});
