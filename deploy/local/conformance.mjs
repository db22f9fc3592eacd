import './node-version.mjs';
import { existsSync } from 'node:fs';
import { cp, mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { build, ensureDependencies } from './dependencies.mjs';
import { tryApi } from './conformance-api.mjs';
import { ensurePrograms } from './programs.mjs';
import { startPrivateRedis } from './redis.mjs';
import { fail, projectRoot, run, say, SetupError } from './steps.mjs';
import { tapReader } from './tap.mjs';

/**
 * `npm run test:conformance`: writes datasets of every kind and opens them with the real Python readers, in virtual
 * environments of their own under `.venv/` (several GB, kept between runs), and holds the chart's manifests against the
 * schemas of several versions of Kubernetes, asks the API all that its description allows and forbids, and tries storage
 * against a full S3 server. Closes with `N passed, N failed`.
 */
const ENVIRONMENTS = join(projectRoot, '.venv');
const OFFLINE = { HF_HUB_OFFLINE: '1', WANDB_MODE: 'offline', PYTHONWARNINGS: 'ignore' };

/** What can be asked for alone: `npm run test:conformance -- api`; with `--seed=N`, the API other questions. */
const parts = { datasets: tryDatasets, manifests: tryManifests, api: tryApiOn, storage: tryStorage };

async function main() {
  const asked = process.argv.slice(2);
  const seed = asked.find((word) => /^--seed=\d+$/.test(word))?.slice('--seed='.length);
  const wanted = asked.filter((word) => seed === undefined || !word.startsWith('--seed='));
  const unknown = wanted.filter((part) => !(part in parts));
  if (unknown.length > 0) {
    throw new SetupError(`expected ${Object.keys(parts).join(', ')}, found ${unknown.join(', ')}`);
  }
  const programs = await ensurePrograms({ required: ['ffmpeg', 'redis'] });
  await ensureDependencies();
  await build();
  const requirements = JSON.parse(
    await readFile(join(projectRoot, 'test/conformance/requirements.json'), 'utf8'),
  );
  // storage alone needs no Python
  const uv = wanted.join() === 'storage' ? undefined : await ensureInstaller(requirements.installer);
  const checks = [];
  for (const [part, attempt] of Object.entries(parts)) {
    if (wanted.length > 0 && !wanted.includes(part)) continue;
    checks.push(...(await attempt({ uv, requirements, programs, seed })));
  }
  const failed = checks.filter((check) => !check.ok);
  say('');
  for (const { where, id, message } of failed) say(`FAILED ${where} ${id}: ${message}`);
  say(`${checks.length - failed.length} passed, ${failed.length} failed`);
  if (failed.length > 0) process.exitCode = 1;
}

async function tryDatasets({ uv, requirements: { readers } }) {
  for (const reader of readers) await ensureReader(uv, reader);
  const work = join(ENVIRONMENTS, 'datasets');
  await rm(work, { recursive: true, force: true });
  await mkdir(work, { recursive: true });
  say('writing the datasets');
  await run(process.execPath, [join(projectRoot, 'dist/test/conformance/datasets.js'), work]);
  const checks = [];
  for (const reader of readers) checks.push(...(await tryReader(reader, work)));
  return checks;
}

/** Storage against a full S3 server, versitygw, built with Go when this machine has none. */
async function tryStorage() {
  say('trying storage against versitygw (a minute, more when it is built first)');
  const script = join(projectRoot, 'test/conformance/s3.mjs');
  const { text } = await allow(run(process.execPath, [script, '--tap']));
  const reader = tapReader();
  const checks = [];
  for (const line of text.split('\n')) {
    const before = { ...reader.counts };
    const shown = reader.line(line);
    const [passed, failed] = ['passed', 'failed'].map((kind) => reader.counts[kind] > before[kind]);
    if (!passed && !failed) continue;
    say(shown);
    checks.push({ where: 'storage', ok: passed, id: 'versitygw', message: shown.trim() });
  }
  if (!reader.ended() || checks.length === 0) {
    checks.push({ where: 'storage', ok: false, id: 'versitygw', message: text.slice(-400) });
  }
  return checks;
}

/** The API against its own description. */
async function tryApiOn({ uv, requirements: { api }, programs, seed }) {
  await ensureReader(uv, api);
  say('asking the API everything (some minutes)');
  const redis = await startPrivateRedis(programs.get('redis'));
  try {
    const program = join(ENVIRONMENTS, api.name, 'bin', 'schemathesis');
    const checks = await tryApi(program, redis, join(ENVIRONMENTS, 'work'), seed);
    for (const { ok, id, message } of checks) say(`${ok ? 'ok    ' : 'FAILED'} api ${id}: ${message}`);
    return checks.map((check) => ({ where: 'api', ...check }));
  } finally {
    await redis.stop();
  }
}

const pythonOf = (name) => join(ENVIRONMENTS, name, 'bin', 'python');

/** The installer, in an environment of its own: it shares unpacked packages between the others. */
async function ensureInstaller(requirement) {
  const uv = join(ENVIRONMENTS, 'installer', 'bin', 'uv');
  if (existsSync(uv)) return uv;
  say('setting up the Python installer');
  const python = await findPython(['3.12', '3.13', '3.11', '3.10']);
  await run(python, ['-m', 'venv', join(ENVIRONMENTS, 'installer')]);
  await run(pythonOf('installer'), ['-m', 'pip', 'install', '--quiet', requirement]);
  return uv;
}

async function ensureReader(uv, { name, python, packages }) {
  const marker = join(ENVIRONMENTS, name, 'complete');
  if (existsSync(marker)) return;
  say(`installing ${name} (takes a while the first time)`);
  const cache = { UV_CACHE_DIR: join(ENVIRONMENTS, 'cache') };
  await rm(join(ENVIRONMENTS, name), { recursive: true, force: true });
  await run(uv, ['venv', '--python', await findPython(python), join(ENVIRONMENTS, name)], { env: cache });
  await run(uv, ['pip', 'install', '--quiet', '--python', pythonOf(name), ...packages], { env: cache });
  await mkdir(marker);
}

/** An interpreter of one of these versions: on PATH, or kept by pyenv. */
async function findPython(versions) {
  const pyenv = join(homedir(), '.pyenv', 'versions');
  const kept = existsSync(pyenv) ? await readdir(pyenv) : [];
  for (const version of versions) {
    const candidates = [
      `python${version}`,
      ...kept
        .filter((each) => each.startsWith(`${version}.`))
        .map((each) => join(pyenv, each, 'bin', 'python')),
    ];
    for (const candidate of candidates) {
      try {
        await run(candidate, [
          '-c',
          `import sys, venv; assert "%d.%d" % sys.version_info[:2] == "${version}"`,
        ]);
        return candidate;
      } catch {
        // Not this one; the error below names what was looked for.
      }
    }
  }
  throw new SetupError(
    `The Python readers need Python ${versions.join(' or ')} with its venv module, none was found: ` +
      'install one (Debian and Ubuntu: apt-get install python3 python3-venv; macOS: brew install python@3.12)',
  );
}

/** Runs everything one reader is asked, over the datasets it can read. */
async function tryReader({ name, formats, without = [], tools = false }, work) {
  const checks = [];
  const record = (where, lines) => {
    for (const check of lines) {
      checks.push({ where, ...check });
      say(`${check.ok ? 'ok    ' : 'FAILED'} ${where} ${check.id}: ${check.message}`);
    }
  };
  for (const dataset of (await readdir(work)).toSorted()) {
    const expected = join(work, dataset, 'expected.json');
    const { version } = JSON.parse(await readFile(expected, 'utf8'));
    if (!formats.includes(version) || without.includes(dataset)) continue;
    const script = join(projectRoot, 'test/conformance/read_dataset.py');
    const output = await allow(
      run(pythonOf(name), [script, join(work, dataset, 'dataset'), expected], { env: OFFLINE }),
    );
    record(`${name} ${dataset}`, checkLines(output));
    if (tools)
      record(`${name} ${dataset}`, [
        await command('doctor', name, ['lerobot-doctor', join(work, dataset, 'dataset')]),
      ]);
  }
  if (tools) record(name, await tryTools(name, work));
  return checks;
}

/** The chart's manifests against the strict schemas of the oldest, a common and the newest Kubernetes. */
async function tryManifests({ uv, requirements: { kubernetes } }) {
  await ensureReader(uv, kubernetes);
  const { name } = kubernetes;
  const manifests = join(ENVIRONMENTS, 'manifests.json');
  await run(process.execPath, [join(projectRoot, 'dist/test/conformance/manifests.js'), manifests]);
  const script = join(projectRoot, 'test/conformance/check_manifests.py');
  const lines = checkLines(await allow(run(pythonOf(name), [script, manifests])));
  for (const { ok, id, message } of lines) say(`${ok ? 'ok    ' : 'FAILED'} ${name} ${id}: ${message}`);
  return lines.map((check) => ({ where: name, ...check }));
}

/** The output of a program, whatever its exit status: a reader that dies leaves its last words as a failed check. */
async function allow(output) {
  try {
    return { text: await output };
  } catch (error) {
    return { text: error.message, error };
  }
}

function checkLines({ text, error }) {
  const lines = text.split('\n').filter((line) => line.startsWith('{"id"'));
  const checks = lines.map((line) => JSON.parse(line));
  if (checks.length === 0 || (error && checks.every((check) => check.ok))) {
    checks.push({ id: 'reader', ok: false, message: text.slice(-400) });
  }
  return checks;
}

/** Training, editing and converting with lerobot's own commands. */
async function tryTools(name, work) {
  const root = join(work, 'h264', 'dataset');
  const made = join(ENVIRONMENTS, 'made');
  await rm(made, { recursive: true, force: true });
  await mkdir(made, { recursive: true });
  const edit = (to) => [
    ...words('lerobot-edit-dataset --new_repo_id local/edited --new_root'),
    join(made, to),
  ];
  const commands = {
    'train-act': [
      ...words('lerobot-train --policy.type=act --policy.device=cpu --policy.push_to_hub=false'),
      ...words('--policy.pretrained_backbone_weights=null --policy.chunk_size=10 --policy.n_action_steps=10'),
      ...words(
        '--policy.dim_model=64 --policy.n_heads=2 --policy.dim_feedforward=64 --steps=2 --batch_size=2',
      ),
      ...words('--num_workers=0 --wandb.enable=false --save_checkpoint=false --dataset.repo_id=local/x'),
      `--dataset.root=${root}`,
      `--output_dir=${join(made, 'trained')}`,
    ],
    'delete-episode': [
      ...edit('deleted'),
      ...words('--operation.type delete_episodes --operation.episode_indices [0] --repo_id local/x --root'),
      root,
    ],
    'merge-with-itself': [
      ...edit('merged'),
      ...words("--operation.type merge --operation.repo_ids ['local/x','local/y'] --operation.roots"),
      `['${root}','${root}']`,
    ],
  };
  const old = join(made, 'converted');
  await cp(join(work, 'v21', 'dataset'), old, {
    recursive: true,
    filter: (path) => !path.includes('.roboflow'),
  });
  commands['convert-v21'] = [
    ...words('python -m lerobot.scripts.convert_dataset_v21_to_v30 --repo-id=local/v21 --push-to-hub=false'),
    `--root=${old}`,
  ];
  const checks = [];
  for (const [id, line] of Object.entries(commands)) checks.push(await command(id, name, line));
  return checks;
}

/** One of the programs that come with a reader; its exit status decides. */
async function command(id, name, [program, ...args]) {
  const path = join(ENVIRONMENTS, name, 'bin', program);
  const { error } = await allow(run(path, args, { env: OFFLINE }));
  return { id, ok: !error, message: error ? error.message.slice(-600) : 'as expected' };
}

const words = (text) => text.split(' ');

main().catch(fail);
