import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { Registry } from 'prom-client';
import { parse } from 'yaml';
import { writeDemoRecordings } from '../deploy/local/demo-recordings.ts';
import { environment } from '../src/config.ts';
import { configFaults } from '../src/conversion/config.ts';
import { createStorageMetrics } from '../src/metrics/storage.ts';
import { openStorage } from '../src/storage/open.ts';
import { PrivateRedis } from './helpers/redis.ts';
import { type S3Server, startAnyS3Server } from './helpers/s3-server.ts';
import { startService } from './helpers/service.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const { findProgram } = (await import(join(root, 'deploy', 'local', 'programs.mjs'))) as {
  findProgram: (name: string) => string | undefined;
};
const execute = promisify(execFile);

/** The text between the heading `## title` and the next one. */
function section(title: string): string {
  const start = readme.indexOf(`\n## ${title}\n`);
  if (start < 0) throw new Error(`README.md has no section "${title}"`);
  const end = readme.indexOf('\n## ', start + 1);
  return readme.slice(start, end < 0 ? undefined : end);
}

/** The fenced blocks of one language. */
function blocks(text: string, language: string): string[] {
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, 'gm'))].map(
    (match) => match[1] ?? '',
  );
}

test('every npm script that the README names is there, and so is every file it links to', (t) => {
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>;
  };
  const named = [...readme.matchAll(/npm (?:run )?(demo|test(?::\w+)?|start|check|bench)\b/g)].map(
    (match) => match[1] ?? '',
  );
  t.true(named.length > 5);
  for (const name of named) t.true(name in scripts, name);
  for (const [, path] of readme.matchAll(/\]\((?!https?:)([^)#]+)\)/g))
    t.true(existsSync(join(root, path ?? '')), path);
});

test('the mapping in the README is a valid one, and its table names variables of the service', (t) => {
  const mappings = blocks(section('The mapping'), 'yaml');
  t.is(mappings.length, 2);
  for (const yaml of mappings) t.deepEqual(configFaults(parse(yaml)), []);
  const rows = section('Operations')
    .split('\n')
    .filter((line) => line.startsWith('| `'));
  const names = rows.flatMap((row) =>
    [...(row.split('|')[1] ?? '').matchAll(/`(\w+)`/g)].map((match) => match[1] ?? ''),
  );
  t.true(names.length >= 6);
  for (const name of names) t.true(name in environment.shape, name);
});

test('every command of the README is one that a test here runs', (t) => {
  const run = [
    ...blocks(section('Two commands'), 'sh'), // test/deploy: the demo; and this run of the tests itself
    ...blocks(section('Your own data in five minutes'), 'sh'),
    ...blocks(section('Operations'), 'sh'),
    ...blocks(section('The API'), 'sh'),
  ];
  t.deepEqual(blocks(readme, 'sh'), run);
  t.is(run.length, 5);
});

/** How the service and the commands reach an S3 server. */
function s3Environment({ settings: { endpoint, credentials } }: S3Server): Record<string, string> {
  return {
    AWS_ENDPOINT_URL_S3: endpoint,
    S3_FORCE_PATH_STYLE: 'true',
    AWS_ACCESS_KEY_ID: credentials?.accessKeyId ?? '',
    AWS_SECRET_ACCESS_KEY: credentials?.secretAccessKey ?? '',
  };
}

/** A folder like a checkout after `npm run demo`, a running service, and a shell that finds `npx roboflow`. */
async function newcomer(t: ExecutionContext) {
  const folder = await mkdtemp(join(tmpdir(), 'roboflow-readme-'));
  const recordings = join(folder, 'demo', 'recordings');
  await mkdir(recordings, { recursive: true });
  const [first, second] = await writeDemoRecordings(recordings);
  const redis = await PrivateRedis.start();
  t.teardown(async () => {
    await redis.end();
    await rm(folder, { recursive: true, force: true });
  });
  const s3 = await startAnyS3Server();
  t.teardown(() => s3?.stop());
  const env = {
    ...(s3 === undefined ? {} : s3Environment(s3)),
    REDIS_URL: redis.url,
    WORKERS: '2',
    SCRATCH_DIR: join(folder, 'scratch'),
    CACHE_DIR: join(folder, 'cache'),
    LOG_LEVEL: 'info',
  };
  const { url } = await startService(t, env);
  const bin = join(folder, 'bin');
  await mkdir(bin);
  const shims = {
    npx: `test "$1" = roboflow && shift && exec '${process.execPath}' '${join(root, 'dist', 'src', 'cli.js')}' "$@"`,
    // As a person would notice it: an answer that is an error fails the command. A stream is left when all is done.
    curl: [
      `curl() { '${findProgram('curl') ?? 'curl'}' --fail-with-body --silent --show-error "$@"; }`,
      'case "$*" in */events) ;; *) curl --max-time 60 "$@"; exit;; esac',
      'while IFS= read -r line; do',
      `  echo "$line"; case "$line" in *'"state":"completed"'*) exit;; esac`,
      'done < <(curl --no-buffer --max-time 60 "$@" 2>&-)',
      'exit 1',
    ].join('\n'),
  };
  for (const [name, script] of Object.entries(shims)) {
    await writeFile(join(bin, name), `#!/usr/bin/env bash\n${script}\n`);
    await chmod(join(bin, name), 0o755);
  }
  if (s3 !== undefined) {
    const bucket = openStorage(`s3://${s3.bucket}/raw`, {
      metrics: createStorageMetrics(new Registry()),
      role: 'destination',
      s3: s3.settings,
    });
    await bucket.put('2026-11-03/left/near.mcap', { path: first ?? '' });
  }
  await mkdir(join(folder, 'node_modules'));
  await symlink(root, join(folder, 'node_modules', 'roboflow-worker'));
  return {
    folder,
    hasS3: s3 !== undefined,
    sh: async (script: string) => {
      const here = script
        .replaceAll('/tmp/', `${folder}/`)
        .replaceAll('http://127.0.0.1:8080', url)
        .replaceAll(/s3:\/\/(raw|datasets)\//g, `s3://${s3?.bucket}/$1/`)
        .replaceAll('file:///data/run-1.mcap', pathToFileURL(first ?? '').href)
        .replaceAll('file:///data/run-2.mcap', pathToFileURL(second ?? '').href);
      const options = {
        cwd: folder,
        env: { ...process.env, ...env, PATH: `${bin}:${process.env['PATH'] ?? ''}` },
      };
      const { stdout } = await execute('bash', ['--norc', '-euo', 'pipefail', '-c', here], options);
      return stdout;
    },
  };
}

test.serial(
  'a newcomer who types the commands of the README gets a dataset, its state and its metrics',
  async (t) => {
    t.timeout(300_000);
    const { sh, hasS3, folder } = await newcomer(t);

    const [own] = blocks(section('Your own data in five minutes'), 'sh');
    const walked = await sh(own ?? '');
    t.regex(walked, /joint_states/);
    t.regex(walked, /all \d+ checks passed/);
    t.regex(walked, /3 to convert \(about \d+ rows\), 0 converted before, 0 refused; nothing was enqueued/);
    t.regex(walked, /arm: completed/);
    const [, completion] = /`(source <\(npx [^`]+)`/.exec(readme) ?? [];
    t.regex(await sh(`${completion}; complete -p roboflow`), /_roboflow/);
    const [, schema] = /`(npx roboflow schema[^`]+)`/.exec(readme) ?? [];
    await sh(schema ?? 'false');
    t.true(existsSync(join(folder, 'roboflow.schema.json')));

    const [, storage] = blocks(section('Operations'), 'sh');
    const [startWithS3, ...enqueue] = (storage ?? '').trim().split('\n');
    t.regex(
      startWithS3 ?? '',
      /^AWS_ENDPOINT_URL_S3=http\S+ S3_FORCE_PATH_STYLE=true AWS_ACCESS_KEY_ID=\S+ AWS_SECRET_ACCESS_KEY=\S+ npm start$/,
    );
    if (hasS3) {
      t.regex(await sh(enqueue.join('\n')), /dataset november: 1 recording enqueued/);
      t.regex(await sh('npx roboflow status november --watch'), /november: completed/);
      t.regex(await sh('npx roboflow verify s3://datasets/november'), /all \d+ checks passed/);
    } else t.log('there is no S3 server here: the commands of "Storage" are not run');

    if (findProgram('curl') === undefined) {
      t.log('curl is not in PATH: the commands of "Operations" and "The API" are not run');
      return;
    }
    const [operations] = blocks(section('Operations'), 'sh');
    const [start, ...looks] = (operations ?? '').trim().split('\n');
    t.regex(start ?? '', /^npm start\b/);
    const seen = await sh(looks.join('\n'));
    t.regex(seen, /"status":"ok"/);
    t.regex(seen, /^roboflow_frames_processed_total [1-9]/m);

    const [api] = blocks(section('The API'), 'sh');
    const answers = await sh(api ?? '');
    t.regex(answers, /"runId"/);
    t.regex(answers, /"state":"completed"/);
  },
);
