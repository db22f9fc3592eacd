import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { parse } from 'yaml';
import { writeDemoRecordings } from '../deploy/local/demo-recordings.ts';
import { environment } from '../src/config.ts';
import { configFaults } from '../src/conversion/config.ts';
import { PrivateRedis } from './helpers/redis.ts';
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

/** A folder like a checkout after `npm run demo`, a running service, and a shell that finds `npx roboflow`. */
async function newcomer(t: ExecutionContext): Promise<{ sh: (script: string) => Promise<string> }> {
  const folder = await mkdtemp(join(tmpdir(), 'roboflow-readme-'));
  const recordings = join(folder, 'demo', 'recordings');
  await mkdir(recordings, { recursive: true });
  const [first, second] = await writeDemoRecordings(recordings);
  const redis = await PrivateRedis.start();
  t.teardown(async () => {
    await redis.end();
    await rm(folder, { recursive: true, force: true });
  });
  const env = {
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
    // As a person would notice it: an answer that is an error fails the command. A stream is left after a while.
    curl: [
      `curl() { '${findProgram('curl') ?? 'curl'}' --fail-with-body --silent --show-error "$@"; }`,
      'case "$*" in */events) curl --max-time 2 "$@" || test $? = 28;; *) curl --max-time 60 "$@";; esac',
    ].join('\n'),
  };
  for (const [name, script] of Object.entries(shims)) {
    await writeFile(join(bin, name), `#!/bin/sh\n${script}\n`);
    await chmod(join(bin, name), 0o755);
  }
  return {
    sh: async (script) => {
      const here = script
        .replaceAll('/tmp/', `${folder}/`)
        .replaceAll('http://127.0.0.1:8080', url)
        .replaceAll('file:///data/run-1.mcap', pathToFileURL(first ?? '').href)
        .replaceAll('file:///data/run-2.mcap', pathToFileURL(second ?? '').href);
      const options = {
        cwd: folder,
        env: { ...process.env, ...env, PATH: `${bin}:${process.env['PATH'] ?? ''}` },
      };
      const { stdout } = await execute('bash', ['-euo', 'pipefail', '-c', here], options);
      return stdout;
    },
  };
}

test.serial(
  'a newcomer who types the commands of the README gets a dataset, its state and its metrics',
  async (t) => {
    t.timeout(170_000);
    const { sh } = await newcomer(t);

    const [own] = blocks(section('Your own data in five minutes'), 'sh');
    const walked = await sh(own ?? '');
    t.regex(walked, /joint_states/);
    t.regex(walked, /all \d+ checks passed/);
    t.regex(walked, /completed/);

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
