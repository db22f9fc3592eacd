// node dist/test/bench/compare/run.js [--runs N] [--python PATH]: this program against the Python way over the same
// recording, interleaved. Without --python an environment is made in .venv/compare (several GB, kept between runs).
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { convert, FULL, H264, run, withRecordings, writeConfig } from '../convert.ts';
import { median, rounded, timed } from '../measure.ts';

const FOLDER = 'test/bench/compare';
const MODES = ['default', 'streaming'] as const;

const { values: options } = parseArgs({
  options: { runs: { type: 'string', default: '3' }, python: { type: 'string' } },
});
const python = options.python ?? (await ensurePython());
const rows = await withRecordings(FULL, async (folder, recording) => {
  const config = await writeConfig(folder, H264);
  const times = { ours: [] as number[], default: [] as number[], streaming: [] as number[] };
  const cpu = { default: [] as number[], streaming: [] as number[] };
  const wall = { default: [] as number[], streaming: [] as number[] };
  for (let round = 0; round < Number(options.runs); round++) {
    const ours = await timed({ work: () => convert(recording(100), config, folder, FULL.frames) });
    times.ours.push(ours.wall);
    for (const mode of MODES) {
      const out = join(folder, 'python');
      await rm(out, { recursive: true, force: true });
      let seconds = 0;
      const work = async () => {
        const said = await run(python, [join(FOLDER, 'convert.py'), recording(100), out, mode]);
        const told = JSON.parse(said.trim().split('\n').at(-1) ?? '') as { rows: number; seconds: number };
        if (told.rows !== FULL.frames) throw new Error(`expected ${FULL.frames} rows, found ${told.rows}`);
        seconds = told.seconds;
      };
      const cost = await timed({ work });
      times[mode].push(seconds);
      // Its imports, several seconds, are left out of the time but not out of its CPU.
      wall[mode].push(seconds / ours.wall);
      cpu[mode].push(cost.cpu / ours.cpu);
    }
  }
  return MODES.map((mode) => ({
    mode,
    ourSeconds: rounded(median(times.ours)),
    pythonSeconds: rounded(median(times[mode])),
    timesFaster: rounded(median(wall[mode])),
    timesLessCpu: rounded(median(cpu[mode])),
  }));
});
console.table(rows);

async function ensurePython(): Promise<string> {
  const environment = '.venv/compare';
  const program = join(environment, 'bin', 'python');
  if (!existsSync(program)) {
    await run(await findPython(), ['-m', 'venv', environment]);
    await run(program, ['-m', 'pip', 'install', '--quiet', '-r', join(FOLDER, 'requirements.txt')]);
  }
  return program;
}

/** LeRobot needs Python 3.12. */
async function findPython(): Promise<string> {
  const check = 'import sys; sys.exit(sys.version_info < (3, 12))';
  for (const name of ['python3', 'python3.14', 'python3.13', 'python3.12']) {
    const fits = await run(name, ['-c', check]).then(
      () => true,
      () => false,
    );
    if (fits) return name;
  }
  throw new Error('the comparison needs Python 3.12 or newer; name one with --python');
}
