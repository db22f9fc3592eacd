import { spawn, execFile, type SpawnOptions } from 'node:child_process';
import { once } from 'node:events';
import { chmod, copyFile, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';
import { parse } from 'yaml';
import { writeDemoRecordings } from '../../deploy/local/demo-recordings.ts';

/**
 * The image without Docker: its files assembled in an empty folder, read-only, run by the image's user (by the current
 * one where we are not root), with nothing writable but scratch and the destination.
 */

const root = fileURLToPath(new URL('../../..', import.meta.url));
const { assembleImageTree } = (await import(join(root, 'deploy', 'local', 'image-tree.mjs'))) as {
  assembleImageTree: (folder: string) => Promise<void>;
};
type PrivateRedis = { url: string; stop(): Promise<unknown> };
const { startPrivateRedis, freePort } = (await import(join(root, 'deploy', 'local', 'redis.mjs'))) as {
  startPrivateRedis: (program: string) => Promise<PrivateRedis>;
  freePort: () => Promise<number>;
};
const { findProgram } = (await import(join(root, 'deploy', 'local', 'programs.mjs'))) as {
  findProgram: (name: string) => string | undefined;
};
const user: SpawnOptions = process.getuid?.() === 0 ? { uid: 10_001, gid: 10_001 } : {};
const execute = promisify(execFile);

/** The folder everything happens in: `app` read-only, `data` with the recordings, `writable` for the rest. */
type Place = { readonly app: string; readonly data: string; readonly writable: string };

async function prepare(release: (work: () => Promise<void>) => void): Promise<Place> {
  const folder = await mkdtemp(join(tmpdir(), 'roboflow-image-test-'));
  release(async () => {
    await writeBits(folder, 0o700);
    await rm(folder, { recursive: true, force: true });
  });
  await chmod(folder, 0o755);
  const place = { app: join(folder, 'app'), data: join(folder, 'data'), writable: join(folder, 'writable') };
  await assembleImageTree(place.app);
  await mkdir(place.data);
  await writeDemoRecordings(place.data);
  await copyFile(join(root, 'deploy', 'local', 'demo.yaml'), join(place.data, 'demo.yaml'));
  await execute('npm', ['pkg', 'set', 'gitHead=0123abc'], { cwd: place.app });
  await writeBits(place.app, 0o555);
  await mkdir(place.writable);
  await chmod(place.writable, 0o777);
  return place;
}

/** Sets the mode of every folder below, its own included; files in a read-only folder cannot be replaced either. */
async function writeBits(folder: string, mode: number): Promise<void> {
  await chmod(folder, mode);
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isDirectory()) await chmod(path, mode);
    else if (entry.isFile() && mode === 0o555) await chmod(path, 0o444);
  }
}

function environmentOf({ writable }: Place, more: Record<string, string> = {}): NodeJS.ProcessEnv {
  return {
    PATH: process.env['PATH'],
    HOME: '/nonexistent',
    NODE_ENV: 'production',
    SCRATCH_DIR: join(writable, 'work'),
    CACHE_DIR: join(writable, 'cache'),
    ...more,
  };
}

test.serial(
  'the assembled tree converts, serves and drains as an unprivileged user who can only write scratch',
  async (t) => {
    t.timeout(180_000);
    const place = await prepare((work) => t.teardown(work));
    const program = join(place.app, 'dist', 'src', 'cli.js');
    const run = (args: string[]) =>
      execute(process.execPath, [program, ...args], { cwd: place.app, env: environmentOf(place), ...user });

    const intrude = `require('node:fs').writeFileSync(${JSON.stringify(join(place.app, 'package.json'))}, '')`;
    await t.throwsAsync(execute(process.execPath, ['-e', intrude], { ...user }), { message: /EACCES/ });

    const recording = join(place.data, '1-near.mcap');
    const converted = join(place.writable, 'converted');
    await run(['convert', recording, '--config', join(place.data, 'demo.yaml'), '--out', converted]);
    const checked = JSON.parse((await run(['verify', converted, '--json'])).stdout) as { ok: boolean };
    t.true(checked.ok);

    const redis = await startPrivateRedis(findProgram('redis-server') ?? findProgram('valkey-server') ?? '');
    t.teardown(async () => void (await redis.stop()));
    const port = await freePort();
    const service = spawn(process.execPath, [program, 'start'], {
      cwd: place.app,
      env: environmentOf(place, {
        REDIS_URL: redis.url,
        WORKERS: '1',
        HTTP_PORT: String(port),
        SHUTDOWN_GRACE_SECONDS: '20',
      }),
      stdio: ['ignore', 'pipe', 'pipe'],
      ...user,
    });
    t.teardown(() => void service.kill('SIGKILL'));
    let log = '';
    for (const stream of [service.stdout, service.stderr])
      stream?.on('data', (chunk) => (log += String(chunk)));
    const exited = once(service, 'exit') as Promise<[number | null, string | null]>;
    const url = `http://127.0.0.1:${port}`;
    await until(
      async () => (await fetch(`${url}/readyz`)).ok,
      () => log,
    );

    const output = join(place.writable, 'dataset');
    const answer = await fetch(`${url}/v1/datasets`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        datasetId: 'image',
        output: pathToFileURL(output).href,
        config: parse(await readFile(join(place.data, 'demo.yaml'), 'utf8')) as unknown,
        recordings: [{ source: pathToFileURL(recording).href, task: 'Carry the ball.' }],
      }),
    });
    t.is(answer.status, 202, await answer.clone().text());
    await until(
      async () => {
        const dataset = (await (await fetch(`${url}/v1/datasets/image`)).json()) as { state: string };
        if (dataset.state === 'failed') throw new Error(JSON.stringify(dataset));
        return dataset.state === 'completed';
      },
      () => log,
    );
    const metrics = await (await fetch(`${url}/metrics`)).text();
    t.regex(metrics, /^roboflow_episodes_processed_total\{[^}]*status="completed"[^}]*\} 1$/m);
    t.regex(metrics, /^roboflow_build_info\{[^}]*revision="0123abc"[^}]*\} 1$/m);

    const stoppedAt = Date.now();
    service.kill('SIGTERM');
    const [code, signal] = await exited;
    t.deepEqual([code, signal], [0, null], log);
    t.true(Date.now() - stoppedAt < 20_000);
    t.true(JSON.parse((await run(['verify', output, '--json'])).stdout) !== null);
    await writeFile(join(place.writable, 'still-writable'), '');
  },
);

/** Waits until `holds`; a connection that is refused counts as not yet. The test's time limit bounds it. */
async function until(holds: () => Promise<boolean>, log: () => string): Promise<void> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const answer = await holds().catch((error: unknown) => {
      if (error instanceof TypeError) return false;
      throw error;
    });
    if (answer) return;
    if (Date.now() > deadline) throw new Error(`waited 60 s for the service; it said:\n${log()}`);
    await pause(100);
  }
}
