import { readFile } from 'node:fs/promises';

/** The middle of some numbers. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** With as many digits as can be told from noise. */
export function rounded(value: number, digits = 2): number {
  return Math.round(value * 10 ** digits) / 10 ** digits;
}

/** Wall and CPU seconds. */
export type Cost = { readonly wall: number; readonly cpu: number };

/** Work to measure, and a clock of the CPU seconds it takes; those of child processes it waited for by default. */
export type Measured = { readonly work: () => Promise<unknown>; readonly cpu?: () => Promise<number> };

/** Wall and CPU seconds of some work. */
export async function timed({ work, cpu = childCpu }: Measured): Promise<Cost> {
  const before = await cpu();
  const start = performance.now();
  await work();
  return { wall: (performance.now() - start) / 1000, cpu: (await cpu()) - before };
}

/** Medians of the ratios of each run of `ours` to the run of `reference` beside it, in turns: the machine may drift. */
export async function ratios(
  runs: number,
  reference: Measured,
  ours: Measured,
): Promise<{ readonly ratio: Cost; readonly reference: Cost }> {
  const references: Cost[] = [];
  const found: Cost[] = [];
  for (let run = 0; run < runs; run++) {
    const first = await timed(run % 2 === 0 ? reference : ours);
    const second = await timed(run % 2 === 0 ? ours : reference);
    const [base, own] = run % 2 === 0 ? [first, second] : [second, first];
    references.push(base);
    found.push({ wall: own.wall / base.wall, cpu: own.cpu / base.cpu });
  }
  return { ratio: medians(found), reference: medians(references) };
}

function medians(costs: readonly Cost[]): Cost {
  return {
    wall: rounded(median(costs.map(({ wall }) => wall))),
    cpu: rounded(median(costs.map(({ cpu }) => cpu))),
  };
}

/** Where Linux has them in `/proc/PID/stat`, after the name; 100 ticks a second. */
const FIELDS = { utime: 11, stime: 12, cutime: 13, cstime: 14 } as const;

/** CPU seconds of a process; the `c` ones are of children it waited for. NaN where the system does not tell. */
export async function cpuOf(pid: number | 'self', parts: readonly (keyof typeof FIELDS)[]): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  if (text === undefined) return Number.NaN;
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return parts.reduce((sum, part) => sum + Number(fields[FIELDS[part]]), 0) / 100;
}

/** CPU seconds of ended children. */
async function childCpu(): Promise<number> {
  return await cpuOf('self', ['cutime', 'cstime']);
}
