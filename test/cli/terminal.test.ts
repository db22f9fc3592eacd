import { spawn as spawnProcess, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import type { spawn } from '@lydell/node-pty';
import test, { type ExecutionContext } from 'ava';
import { demonstration } from '../helpers/demonstration.ts';
import { sharedRedis } from '../helpers/redis.ts';
import { until } from '../helpers/service.ts';
import { Rig } from '../queue/rig.ts';
import { program } from './roboflow.ts';

type Pty = { readonly spawn: typeof spawn };

const pty = await loadPty();
const onTerminal = pty ? test : test.skip;

/** A terminal of its own for a program; there is a build of it for most systems, and the tests are skipped elsewhere. */
async function loadPty(): Promise<Pty | undefined> {
  try {
    return await import('@lydell/node-pty');
  } catch (thrown) {
    console.warn(`no pseudo-terminal on this system, its tests are skipped: ${String(thrown)}`);
    return undefined;
  }
}

const folder = mkdtempSync(join(tmpdir(), 'roboflow-terminal-'));
const NAME = `wörk-${'long-'.repeat(30)}录制.mcap`;
let redis: Awaited<ReturnType<typeof sharedRedis>>;

test.before(async () => {
  redis = await sharedRedis();
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'run.mcap'), await demonstration({ seconds: 1 }));
  await writeFile(join(folder, NAME), await demonstration({ seconds: 20, width: 320, height: 240 }));
  await writeFile(
    join(folder, 'map.yaml'),
    'fps: 30\nclock: header\nfeatures:\n  observation.images.cam: {topic: /cam_high/image_raw/compressed, type: video}\n' +
      '  action: {topic: /joint_commands, field: position, names: all}\n',
  );
});
test.after.always(async () => {
  await redis.end();
  rmSync(folder, { recursive: true, force: true });
});

type ScreenOptions = { readonly columns?: number; readonly env?: Record<string, string> };

/** `roboflow` in a pseudo-terminal. */
function terminal(t: ExecutionContext, args: readonly string[], options: ScreenOptions = {}) {
  return screen(t, process.execPath, [program, ...args], options);
}

/** A program in a pseudo-terminal. */
function screen(t: ExecutionContext, file: string, args: readonly string[], options: ScreenOptions) {
  if (!pty) throw new Error('no terminal');
  const child = pty.spawn(file, [...args], {
    cols: options.columns ?? 100,
    rows: 20,
    cwd: folder,
    env: {
      PATH: process.env['PATH'] ?? '',
      TERM: 'xterm-256color',
      SCRATCH_DIR: join(folder, 'scratch'),
      REDIS_URL: redis.url,
      ...options.env,
    },
  });
  let shown = '';
  let code: number | undefined;
  child.onData((data) => (shown += data));
  child.onExit(({ exitCode }) => (code = exitCode));
  t.teardown(() => {
    if (code === undefined) child.kill('SIGKILL');
  });
  return {
    type: (keys: string) => child.write(keys),
    /** All that was written so far. */
    shown: () => shown,
    shows: (pattern: RegExp) =>
      until(
        () => pattern.exec(shown) ?? undefined,
        () => code !== undefined && !pattern.test(shown) && `ended with ${code} before ${pattern}: ${shown}`,
      ),
    ended: () => until(() => code),
  };
}

/** What stands on the screen after lines were drawn over and over: the text after each erasure, cut into lines. */
function drawings(shown: string): string[][] {
  return shown.split('\x1b[0J').map((part) => stripVTControlCharacters(part).split(/[\r\n]+/));
}

onTerminal('a conversion shows a bar that is gone at the end, and its result', async (t) => {
  const { ended, shown } = terminal(t, [
    'convert',
    'run.mcap',
    '-c',
    'map.yaml',
    '-o',
    'out-1',
    '--task',
    'x',
  ]);
  t.is(await ended(), 0, shown());
  t.regex(shown(), /[█░]{24} +\d+ %  convert \d+ frames {2}run\.mcap/);
  const last = drawings(shown()).at(-1)?.join('\n') ?? '';
  t.notRegex(last, /░/);
  t.regex(last, /out-1: 1 episode, \d+ frames/);
});

onTerminal(
  'Ctrl+C in the middle ends a conversion, leaves nothing behind, and a narrow window holds every line',
  async (t) => {
    const { type, shows, ended, shown } = terminal(
      t,
      ['convert', NAME, '-c', 'map.yaml', '-o', 'out-2', '--task', 'x'],
      { columns: 40, env: { SCRATCH_DIR: join(folder, 'scratch-2') } },
    );
    await shows(/convert [1-9]/);
    type('\x03');
    t.is(await ended(), 130);
    t.regex(shown(), /interrupted\r\n$/);
    const bars = drawings(shown())
      .flat()
      .filter((line) => /[█░]/.test(line));
    t.true(bars.length > 0);
    for (const bar of bars) t.true(bar.replace('^C', '').length < 40, bar);
    t.deepEqual(await readdir(join(folder, 'scratch-2')), []);
    t.false((await readdir(join(folder, 'out-2'))).includes('meta'));
  },
);

onTerminal('colours are for terminals that want them', async (t) => {
  const failing = ['verify', '.'];
  const coloured = terminal(t, failing);
  const plain = terminal(t, failing, { env: { NO_COLOR: '1' } });
  t.is(await coloured.ended(), 1);
  t.is(await plain.ended(), 1);
  t.true(coloured.shown().includes('\x1b[31m'));
  t.false(plain.shown().includes('\x1b[31m'));
});

onTerminal('a dataset is watched in place with its running jobs; Ctrl+C leaves it running', async (t) => {
  const rig = await Rig.open(t, redis.url);
  rig.consumer();
  await writeFile(join(folder, 'slow-4000.mcap'), 'what the rig converts');
  const env = { QUEUE_PREFIX: rig.prefix };
  const args = [
    'enqueue',
    'slow-4000.mcap',
    '-d',
    'slow',
    '-c',
    'map.yaml',
    '-o',
    'out-3',
    '--task',
    'x',
    '--wait',
  ];
  const waiting = terminal(t, args, { env });
  await waiting.shows(/slow converting: 0 of 1/);
  await waiting.shows(/convert slow_4000-/);
  waiting.type('\x03');
  t.is(await waiting.ended(), 130);
  t.regex(waiting.shown(), /the run goes on without you; stop it with: roboflow cancel slow/);

  const watching = terminal(t, ['status', 'slow', '--watch'], { env });
  t.is(await watching.ended(), 0, watching.shown());
  const last = drawings(watching.shown()).at(-1)?.join('\n') ?? '';
  t.regex(last, /slow: completed/);
  t.notRegex(last, /░/);
});

(pty && spawnSync('zsh', ['-fc', 'exit']).status === 0 ? test : test.skip)(
  'zsh completes commands, their options and their words',
  async (t) => {
    const { stdout } = spawnSync(process.execPath, [program, 'completion', 'zsh'], { encoding: 'utf8' });
    await writeFile(join(folder, '_roboflow'), stdout);
    const zsh = screen(t, 'zsh', ['-f'], { env: { PS1: 'ready> ', ZDOTDIR: folder } });
    await zsh.shows(/ready> /);
    zsh.type('autoload -Uz compinit; compinit -uD; source ./_roboflow\r');
    await zsh.shows(/_roboflow[^]*ready> /);
    zsh.type('roboflow enqueue --dr\t');
    await zsh.shows(/enqueue --dry-run/);
    zsh.type('\x15roboflow completion z\t');
    await zsh.shows(/completion zsh/);
    zsh.type('\x15roboflow sta\t\t');
    t.truthy(await zsh.shows(/start +-- run the service[^]*status +-- show datasets/));
  },
);

test('a reader that leaves after the first line ends the command at once and quietly', async (t) => {
  const shell = (line: string) =>
    new Promise<{ code: number | null; out: string; err: string }>((resolve, reject) => {
      const child = spawnProcess('bash', ['--norc', '-o', 'pipefail', '-c', line], {
        stdio: ['ignore', 'pipe', 'pipe'],
        cwd: folder,
        env: { PATH: process.env['PATH'] ?? '', SCRATCH_DIR: join(folder, 'scratch-pipe') },
      });
      let [out, err] = ['', ''];
      child.stdout.on('data', (data: Buffer) => (out += data.toString()));
      child.stderr.on('data', (data: Buffer) => (err += data.toString()));
      child.once('error', reject);
      child.once('close', (code) => resolve({ code, out, err }));
    });
  const roboflow = `'${process.execPath}' '${program}'`;
  const report = `${roboflow} convert run.mcap -c map.yaml -o out-4 --task x && ${roboflow} report out-4 --out - | head -1`;
  const shown = await shell(report);
  t.is(shown.err, '');
  t.regex(shown.out, /<!doctype html>/i);
  // The first line is printed to nobody: the second recording is not converted, and that is no success.
  const many = await shell(
    `${roboflow} convert '${NAME}' run.mcap -c map.yaml -o out-5 --task x --json 2> errors | true; echo "\${PIPESTATUS[0]}"; cat errors`,
  );
  t.is(many.out, '1\n');
});
