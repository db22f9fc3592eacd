import { readFile } from 'node:fs/promises';
import { resourceUsage } from 'node:process';

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

/** Wall seconds of some work, and CPU seconds of the child processes it waited for. */
export async function timed(work: () => Promise<void>): Promise<Cost> {
  const before = await childCpu();
  const start = performance.now();
  await work();
  return { wall: (performance.now() - start) / 1000, cpu: (await childCpu()) - before };
}

/** Medians of the ratios of each run of `ours` to the run of `reference` beside it, in turns: the machine may drift. */
export async function ratios(
  runs: number,
  reference: () => Promise<void>,
  ours: () => Promise<void>,
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

/** CPU seconds of ended children (Linux: cutime and cstime of /proc/self/stat, 100 ticks a second). */
async function childCpu(): Promise<number> {
  const text = await readFile('/proc/self/stat', 'utf8').catch(() => undefined);
  if (text === undefined) return resourceUsage().userCPUTime / 1e6;
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[13]) + Number(fields[14])) / 100;
}
