import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import test from 'ava';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { parse } from 'yaml';
import { Rig } from '../queue/rig.ts';
import { PrivateRedis, randomPrefix, removePrefix, sharedRedis } from '../helpers/redis.ts';
import { demonstration } from '../helpers/demonstration.ts';
import { mcapOf } from '../helpers/recordings.ts';
import { roboflow } from './roboflow.ts';

const folder = mkdtempSync(join(tmpdir(), 'roboflow-cli-'));
const at = (name: string) => join(folder, name);
const prefix = randomPrefix();
let redis: Awaited<ReturnType<typeof sharedRedis>>;

const MAPPING = `fps: 30
clock: header
features:
  observation.state: {topic: /joint_states, field: position, names: all}
  action: {topic: /joint_commands, field: position, names: all}
`;

test.before(async () => {
  redis = await sharedRedis();
  const recording = await demonstration({ seconds: 1, cameras: [], task: null });
  await Promise.all([
    writeFile(at('good.mcap'), recording),
    writeFile(at('other.mcap'), recording),
    writeFile(at('text.mcap'), 'this is no recording'),
    writeFile(at('map.yaml'), MAPPING),
    writeFile(
      at('wrong.yaml'),
      MAPPING.replace('clock: header', 'clok: header').replace('fps: 30', 'fps: 0'),
    ),
    writeFile(
      at('list.jsonl'),
      `{"source": "${at('good.mcap')}", "task": "Own task."}\n\n${at('other.mcap')}\n`,
    ),
  ]);
});
test.after.always(async () => {
  await removePrefix(redis.url, prefix);
  await redis.end();
  rmSync(folder, { recursive: true, force: true });
});

const env = () => ({ REDIS_URL: redis.url, QUEUE_PREFIX: prefix, SCRATCH_DIR: at('scratch') });
const run = (args: readonly string[], input?: string, more: Record<string, string> = {}) =>
  roboflow(args, { cwd: folder, env: { ...env(), ...more }, ...(input === undefined ? {} : { input }) });
const where = (dataset: string) => ['--dataset', dataset, '--config', 'map.yaml', '--out', `out-${dataset}`];

type Case = { title: string; args: readonly string[]; code: number; out?: RegExp; err?: RegExp };
const cases: Case[] = [
  { title: 'no command', args: [], code: 2, err: /Usage: roboflow/ },
  { title: 'help', args: ['help', 'enqueue'], code: 0, out: /Examples:[^]+--dry-run/ },
  {
    title: 'a command that is not there',
    args: ['stats'],
    code: 2,
    err: /unknown command 'stats'\n\(Did you mean status\?\)/,
  },
  {
    title: 'an option that is not there',
    args: ['inspect', 'good.mcap', '--sugest'],
    code: 2,
    err: /Did you mean --suggest\?/,
  },
  {
    title: 'an option left out',
    args: ['convert', 'good.mcap'],
    code: 2,
    err: /required option '-c, --config <file>'/,
  },
  {
    title: 'a priority beyond the range',
    args: ['enqueue', 'good.mcap', ...where('p'), '-p', '10'],
    code: 2,
    err: /from 0 to 9/,
  },
  {
    title: 'a faulty config',
    args: ['convert', 'good.mcap', '--config', 'wrong.yaml', '--out', 'x'],
    code: 2,
    err: /wrong\.yaml[^]*line 1, column 1, \/fps: [^\n]*found the number 0\n- line 2, column 1, \/clok: unknown key 'clok'; nearest: clock\n/,
  },
  {
    title: 'a config that is not there',
    args: ['convert', 'good.mcap', '--config', 'none.yaml', '--out', 'x'],
    code: 2,
    err: /cannot read the config none\.yaml/,
  },
  {
    title: 'a config that is a folder',
    args: ['convert', 'good.mcap', '--config', '.', '--out', 'x'],
    code: 2,
    err: /^error: cannot read the config \.: it is a folder, not a file \(EISDIR\)\n$/,
  },
  {
    title: 'a recording in the place of the config',
    args: ['convert', 'map.yaml', '--config', 'good.mcap', '--out', 'x'],
    code: 2,
    err: /^error: good\.mcap: expected a dataset config \(YAML or JSON\), found a file that is no text\n$/,
  },
  {
    title: 'a list that is not there',
    args: ['enqueue', '@none.txt', ...where('x')],
    code: 2,
    err: /cannot read the list none\.txt/,
  },
  {
    title: 'a recording that is not there',
    args: ['inspect', 'none.mcap'],
    code: 1,
    err: /^error: expected a recording at file:.*none\.mcap, found nothing\n$/,
  },
  {
    title: 'a recording that is none',
    args: ['convert', 'text.mcap', '--config', 'map.yaml', '--out', 'y', '--task', 'x'],
    code: 1,
    err: /^error: .*text\.mcap/,
  },
  {
    title: 'a dataset that is not there',
    args: ['status', 'nobody', '--json'],
    code: 1,
    err: /no dataset and no job with the id nobody/,
  },
  {
    title: 'a job that is not there',
    args: ['retry', 'nobody.good-0123'],
    code: 1,
    err: /no job with the id/,
  },
  {
    title: 'a folder without a dataset',
    args: ['verify', '.'],
    code: 1,
    out: /meta\/info\.json is missing: the dataset is not finished\n[^]*FAILED {2}\d+ more: could not be examined/,
  },
  {
    title: 'a list of nothing',
    args: ['enqueue', '-', ...where('x')],
    code: 2,
    err: /expected at least one recording, found none/,
  },
];

test('every wrong use ends with 2, every failure with 1, and says why on standard error alone', async (t) => {
  for (const { title, args, code, out, err } of cases) {
    const ended = await run(args);
    t.is(ended.code, code, `${title}: ${ended.stderr}`);
    if (out) t.regex(ended.stdout, out, title);
    if (err) t.regex(ended.stderr, err, title);
    if (code === 2 || args.includes('--json')) t.is(ended.stdout, '', title);
    t.false((ended.stdout + ended.stderr).includes('\x1b'), `${title}: no colours without a terminal`);
    t.notRegex(ended.stderr, /\n {4}at /, `${title}: no stack`);
  }
  const scratch = await run(['convert', 'good.mcap', '-c', 'map.yaml', '-o', 'z', '-t', 'x'], undefined, {
    SCRATCH_DIR: at('good.mcap'),
  });
  t.is(scratch.code, 1);
  t.regex(
    scratch.stderr,
    /^error: cannot make the scratch folder \S+: a part of the path is a file[^\n]*\n$/,
  );
  const wrong = await run(['status'], undefined, { WORKERS: 'many', LOG_LEVEL: 'loud' });
  t.is(wrong.code, 2);
  t.regex(wrong.stderr, /2 wrong value\(s\):\n {2}WORKERS: .*\n {2}LOG_LEVEL: /);
});

test('a service that finds its port taken says so and ends', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1');
  t.teardown(() => taken.close());
  await once(taken, 'listening');
  const { port } = taken.address() as AddressInfo;
  const ended = await run(['start'], undefined, {
    HTTP_PORT: String(port),
    WORKERS: '0',
    LOG_LEVEL: 'fatal',
  });
  t.is(ended.code, 1);
  t.regex(ended.stderr, new RegExp(`^error: cannot listen on 127\\.0\\.0\\.1:${port}: .*EADDRINUSE.*\\n$`));
});

test('without Redis the commands that need it say so within seconds', async (t) => {
  const away = await PrivateRedis.start();
  await away.end();
  const { code, stderr } = await run(['status'], undefined, { REDIS_URL: away.url });
  t.is(code, 1);
  t.regex(
    stderr,
    /expected Redis to list datasets; (it cannot be reached|it did not answer in time) \(redis:\/\/127\.0\.0\.1:\d+, from REDIS_URL\)\n$/,
  );
});

test('each recording that fails is named, also when its reason does not name it', async (t) => {
  const messages = [{ log: 1n, value: new Uint8Array(8) }];
  const names = ['cbor-1.mcap', 'cbor-2.mcap'];
  const bytes = await mcapOf({ channels: [{ topic: '/joint_states', encoding: 'cbor', messages }] });
  for (const name of names) await writeFile(at(name), bytes);
  const line = (name: string) =>
    `${pathToFileURL(at(name)).href}: topic /joint_states: expected messages in cdr`;
  const made = await run(['convert', ...names, '-t', 'x', '-c', 'map.yaml', '-o', 'out-here']);
  t.is(made.code, 1);
  for (const name of names) t.true(made.stderr.includes(`error: ${line(name)}`), made.stderr);
  const tried = await run(['enqueue', ...names, '--dry-run', '-t', 'x', ...where('named')]);
  for (const name of names) t.true(tried.stdout.includes(`refuse   ${line(name)}`), tried.stdout);
});

test('a dry run plans every recording, writes nothing, needs no Redis, and fails when a recording would', async (t) => {
  const away = { REDIS_URL: 'redis://127.0.0.1:1' };
  const sources = [at('good.mcap'), '{"source": "text.mcap"}'].join('\n');
  const tried = await run(
    ['enqueue', '-', '--dry-run', '--json', '--task', 'Do it.', ...where('dry')],
    sources,
    away,
  );
  t.is(tried.code, 1, tried.stderr);
  const plan = JSON.parse(tried.stdout) as Record<string, unknown> & {
    recordings: Record<string, unknown>[];
  };
  t.like(plan, { datasetId: 'dry', convert: 1, skip: 0, refuse: 1 });
  t.like(plan.recordings[0], {
    outcome: 'convert',
    source: pathToFileURL(at('good.mcap')).href,
    episodes: 1,
    tasks: ['Do it.'],
  });
  t.like((plan.recordings[0]?.['features'] as object[] | undefined)?.[0], {
    key: 'observation.state',
    dtype: 'float32',
    shape: [4],
    names: ['shoulder', 'elbow', 'wrist', 'gripper'],
  });
  t.like(plan.recordings[1], { outcome: 'refuse' });
  t.regex(String(plan.recordings[1]?.['reason']), /text\.mcap/);
  t.throws(() => readFileSync(at('out-dry')), { code: 'ENOENT' });

  const made = await run(['convert', 'good.mcap', '--json', '--task', 'Do it.', ...where('dry')]);
  t.is(made.code, 0, made.stderr);
  const manifest = JSON.parse(made.stdout) as { episodes: { frames: number }[] };
  t.is(manifest.episodes[0]?.frames, plan.recordings[0]?.['rows'] as number, 'as many rows as were promised');
  const again = await run(
    ['enqueue', 'good.mcap', '-n', '--task', 'Do it.', ...where('dry')],
    undefined,
    away,
  );
  t.is(again.code, 0, again.stderr);
  t.regex(again.stdout, /skip {5}file:.*good\.mcap: converted before, \d+ rows/);
  t.regex(again.stdout, /1 converted before, 0 refused; nothing was enqueued/);

  await writeFile(at('fewer.mcap'), await demonstration({ seconds: 1, joints: ['shoulder', 'elbow'] }));
  const mixed = await run(
    ['enqueue', 'good.mcap', 'fewer.mcap', '-n', '--task', 'x', ...where('mixed')],
    undefined,
    away,
  );
  t.is(mixed.code, 1, 'one of them would not fit to the other');
  t.regex(mixed.stdout, /other features: file:.*fewer\.mcap/);

  const outside = await run(
    ['enqueue', 'good.mcap', '-n', '--json', '--task', 'x', ...where('roots')],
    undefined,
    {
      ...away,
      SOURCE_ROOTS: 'file:///data/',
    },
  );
  t.is(outside.code, 1);
  t.regex(outside.stdout, /"outcome":"refuse".*file:\/\/\/data\//);
});

test('a list on standard input or in a file is enqueued with the tasks of its lines', async (t) => {
  const listed = await run(['enqueue', '@list.jsonl', '--task', 'Default.', '--json', ...where('lists')]);
  t.is(listed.code, 0, listed.stderr);
  t.like(JSON.parse(listed.stdout), { datasetId: 'lists', episodes: 2 });
  const piped = await run(
    ['enqueue', '-', '--json', '--task', 'x', ...where('piped')],
    '{good,other}.mcap\n',
  );
  t.like(JSON.parse(piped.stdout), { datasetId: 'piped', episodes: 2 });
  const broken = await run(['enqueue', '-', ...where('piped')], 'good.mcap\n{"source": }\n');
  t.is(broken.code, 2);
  t.regex(broken.stderr, /standard input, line 2: expected a source or JSON/);

  const status = await run(['status', 'lists', '--json']);
  t.like(JSON.parse(status.stdout), { datasetId: 'lists', state: 'planning', episodes: { total: 2 } });
  const all = await run(['status']);
  t.regex(all.stdout, /^DATASET +STATE +DONE/);
  t.regex(all.stdout, /^lists +planning +0\/2/m);
  const cancelled = await run(['cancel', 'lists', '--json']);
  t.like(JSON.parse(cancelled.stdout), { datasetId: 'lists', episodes: 2 });
  t.is((await run(['cancel', 'lists'])).code, 1, 'what has ended cannot be cancelled');
  const watched = await run(['status', 'lists', '--watch', '--json']);
  t.is(watched.code, 0);
  t.like(JSON.parse(watched.stdout), { state: 'cancelled' });
});

test('--wait follows a run to its end: 0 when it is completed, 1 when not', async (t) => {
  const rig = await Rig.open(t, redis.url);
  rig.consumer();
  const wait = async (source: string) => {
    await writeFile(at(source), 'what the rig converts');
    const args = ['enqueue', source, '--wait', '--json', '--task', 'x', ...where(source.slice(0, 3))];
    return await run(args, undefined, { QUEUE_PREFIX: rig.prefix });
  };
  const good = await wait('good-1.mcap');
  t.is(good.code, 0, good.stderr);
  const [accepted, status] = good.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as object);
  t.like(accepted, { datasetId: 'goo', episodes: 1 });
  t.like(status, { datasetId: 'goo', state: 'completed' });
  const bad = await wait('bad-1.mcap');
  t.is(bad.code, 1);
  t.like(JSON.parse(bad.stdout.trim().split('\n')[1] ?? ''), { state: 'failed' });
});

test('--wait says once that no worker is there, and follows the one that comes', async (t) => {
  const rig = await Rig.open(t, redis.url);
  await writeFile(at('good-2.mcap'), 'what the rig converts');
  const args = ['enqueue', 'good-2.mcap', '--wait', '--json', '--task', 'x', ...where('lonely')];
  const lonely = /no worker is connected to this Redis; start the service/g;
  let coming = false;
  const { code, stderr } = await roboflow(args, {
    cwd: folder,
    env: { ...env(), QUEUE_PREFIX: rig.prefix },
    onError: (text) => {
      if (coming || text.search(lonely) < 0) return;
      coming = true;
      rig.consumer();
    },
  });
  t.is(code, 0, stderr);
  t.is(stderr.match(lonely)?.length, 1);
});

const readme = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8');

test('the schema for editors takes what the README writes and refuses what the service refuses', async (t) => {
  const { code, stdout } = await run(['schema']);
  t.is(code, 0);
  const validate = new Ajv2020({ strict: false }).compile(JSON.parse(stdout) as object);
  const mappings = [...readme.matchAll(/^```yaml\n([^]*?)^```/gm)].map(
    ([, yaml]) => parse(yaml ?? '') as object,
  );
  t.true(mappings.length >= 2);
  for (const mapping of [...mappings, parse(MAPPING) as object])
    t.true(validate(mapping), JSON.stringify(validate.errors));
  const feature = { topic: '/joints', field: 'position' };
  const wrong: [string, object][] = [
    ['no features', { fps: 30 }],
    ['no rate', { features: { action: feature } }],
    ['a rate of zero', { fps: 0, features: { action: feature } }],
    ['an unknown key', { fps: 30, clok: 'log', features: { action: feature } }],
    ['an unknown clock', { fps: 30, clock: 'wall', features: { action: feature } }],
    ['an unknown key of a feature', { fps: 30, features: { action: { ...feature, feild: 'x' } } }],
    ['a camera of an unknown type', { fps: 30, features: { cam: { topic: '/cam', type: 'gif' } } }],
    ['an unknown way to align', { fps: 30, features: { action: feature }, align: { method: 'guess' } }],
    [
      'two ways to split',
      { fps: 30, features: { action: feature }, episodes: { split: { gap: 1, marks: 'x' } } },
    ],
  ];
  for (const [title, config] of wrong) t.false(validate(config), title);
});

const has = (shell: string) => spawnSync(shell, ['-c', 'exit 0']).status === 0;

test('bash completes commands, their options and their words', async (t) => {
  const { code, stdout } = await run(['completion', 'bash']);
  t.is(code, 0);
  const complete = (...words: string[]) => {
    const script = `${stdout}\ncompopt() { :; }\nCOMP_WORDS=(roboflow ${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length}; _roboflow; echo "\${COMPREPLY[*]}"`;
    const done = spawnSync('bash', ['--norc', '-eu', '-c', script], { encoding: 'utf8' });
    t.is(done.stderr, '');
    return done.stdout.trim();
  };
  t.is(complete('sta'), 'start status');
  t.is(complete('enqueue', '--d'), '--dataset --dry-run');
  t.is(complete('completion', ''), 'bash zsh fish');
  t.is(complete('enqueue', '--config', ''), '', 'left to the file names of the shell');
  t.is((await run(['completion', 'tcsh'])).code, 2);
});

(has('fish') ? test : test.skip)('fish completes commands, their options and their words', async (t) => {
  const { stdout } = await run(['completion', 'fish']);
  await writeFile(at('completion.fish'), stdout);
  const lines = ['roboflow sta', 'roboflow enqueue --d', 'roboflow completion '];
  const script = `source ${at('completion.fish')}; ${lines.map((line) => `complete -C '${line}'; echo`).join(';')}`;
  const done = spawnSync('fish', ['--no-config', '-c', script], { encoding: 'utf8' });
  t.is(done.stderr, '');
  const words = done.stdout.split('\n').map((line) => line.split('\t')[0]);
  t.is(words.join(' '), 'start status  --dataset --dry-run  bash fish zsh  ');
});
