import { spawn, execFile, type SpawnOptions } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, copyFile, mkdir, mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
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
const execute = promisify(execFile);
const isRoot = process.getuid?.() === 0;

/**
 * Runs a command as the image does: uid 10001 without capabilities, in a mount namespace where everything but $1 is
 * read-only. $2 is the folder for temporary files, which may be a file system of its own.
 */
const confine =
  'mount --make-rprivate / && mount --bind "$2" "$2" && mount --bind "$1" "$1" && ' +
  'mount -o remount,bind,ro "$2" && mount -o remount,bind,ro / && shift 2 && ' +
  'exec setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --bounding-set=-all -- "$@"';

type Command = { readonly command: readonly [string, ...string[]]; readonly user: SpawnOptions };

/** How to run `args` with Node: confined where we may, else as the image's user at least where we are root. */
function nodeCommand(confined: boolean, writable: string, args: readonly string[]): Command {
  if (!confined) {
    const user = isRoot ? { uid: 10_001, gid: 10_001 } : {};
    return { command: [process.execPath, ...args], user };
  }
  const shell = ['sh', '-c', confine, 'sh', writable, tmpdir()];
  return { command: ['unshare', '--mount', ...shell, process.execPath, ...args], user: {} };
}

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
    TMPDIR: writable,
    SCRATCH_DIR: join(writable, 'work'),
    CACHE_DIR: join(writable, 'cache'),
    ...more,
  };
}

test.serial(
  'the assembled tree converts, serves and drains as an unprivileged user who can only write scratch',
  async (t) => {
    t.timeout(400_000);
    const place = await prepare((work) => t.teardown(work));
    const program = join(place.app, 'dist', 'src', 'cli.js');
    const start = (confined: boolean, args: string[]) => {
      const { command, user } = nodeCommand(confined, place.writable, args);
      const [file, ...rest] = command;
      return { file, rest, options: { cwd: place.app, env: environmentOf(place), ...user } };
    };
    const tryNode = (confined: boolean, args: string[]) => {
      const { file, rest, options } = start(confined, args);
      return execute(file, rest, options);
    };
    const confined =
      isRoot &&
      (await tryNode(true, ['--version']).then(
        () => true,
        () => false,
      ));
    if (!confined) t.log('no mount namespace to be had: the tree alone is read-only, not the whole machine');
    const run = (args: string[]) => tryNode(confined, [program, ...args]);

    const write = (path: string) => ['-e', `require('node:fs').writeFileSync(${JSON.stringify(path)}, '')`];
    const refused = { message: confined ? /EROFS/ : /EACCES/ };
    await t.throwsAsync(tryNode(confined, write(join(place.app, 'package.json'))), refused);
    if (confined)
      await t.throwsAsync(tryNode(true, write(join(tmpdir(), 'roboflow-image-intruder'))), refused);
    await tryNode(confined, write(join(place.writable, 'anything')));
    t.false(existsSync(join(place.app, 'node_modules', 'typescript')));

    const recording = join(place.data, '1-near.mcap');
    const converted = join(place.writable, 'converted');
    await run(['convert', recording, '--config', join(place.data, 'demo.yaml'), '--out', converted]);
    const checked = JSON.parse((await run(['verify', converted, '--json'])).stdout) as { ok: boolean };
    t.true(checked.ok);

    const redis = await startPrivateRedis(findProgram('redis-server') ?? findProgram('valkey-server') ?? '');
    t.teardown(async () => void (await redis.stop()));
    const port = await freePort();
    const { file, rest, options } = start(confined, [program, 'start']);
    const service = spawn(file, rest, {
      ...options,
      env: environmentOf(place, {
        REDIS_URL: redis.url,
        WORKERS: '1',
        HTTP_PORT: String(port),
        SHUTDOWN_GRACE_SECONDS: '40',
      }),
      stdio: ['ignore', 'pipe', 'pipe'],
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
    const config = parse(await readFile(join(place.data, 'demo.yaml'), 'utf8')) as unknown;
    const enqueue = async (datasetId: string, to: string, sources: readonly string[]) => {
      const recordings = sources.map((path) => ({
        source: pathToFileURL(path).href,
        task: 'Carry the ball.',
      }));
      const answer = await fetch(`${url}/v1/datasets`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ datasetId, output: pathToFileURL(to).href, config, recordings }),
      });
      t.is(answer.status, 202, await answer.text());
    };
    await enqueue('image', output, [recording]);
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
    const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as { version: string };
    t.regex(metrics, /^roboflow_build_info\{[^}]*revision="0123abc"[^}]*\} 1$/m);
    t.true(metrics.includes(`roboflow_build_info{version="${version}"`));

    // Stopped in the middle of a conversion.
    const others = ['2-far.mcap', '3-middle.mcap'].map((name) => join(place.data, name));
    await enqueue('interrupted', join(place.writable, 'interrupted'), others);
    await until(
      async () => {
        const text = await (await fetch(`${url}/v1/jobs?dataset=interrupted&state=active`)).text();
        return (JSON.parse(text) as { items: unknown[] }).items.length > 0;
      },
      () => log,
    );
    const stoppedAt = Date.now();
    service.kill('SIGTERM');
    const [code, signal] = await exited;
    t.deepEqual([code, signal], [0, null], log);
    t.true(Date.now() - stoppedAt < 40_000, log);
    t.true((JSON.parse((await run(['verify', output, '--json'])).stdout) as { ok: boolean }).ok);
  },
);

/** Waits until `holds`; a connection that is refused counts as not yet. The test's time limit bounds it. */
async function until(holds: () => Promise<boolean>, log: () => string): Promise<void> {
  const deadline = Date.now() + 120_000;
  for (;;) {
    const answer = await holds().catch((error: unknown) => {
      if (error instanceof TypeError) return false;
      throw error;
    });
    if (answer) return;
    if (Date.now() > deadline) throw new Error(`waited 120 s for the service; it said:\n${log()}`);
    await pause(100);
  }
}
