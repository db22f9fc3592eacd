import { resourceUsage } from 'node:process';

/** The middle of some numbers. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** Wall seconds of some work, and CPU seconds of the child processes it waited for. */
export async function timed(work: () => Promise<void>): Promise<{ wall: number; cpu: number }> {
  const before = await childCpu();
  const start = performance.now();
  await work();
  return { wall: (performance.now() - start) / 1000, cpu: (await childCpu()) - before };
}

/** CPU seconds of ended children (Linux: cutime and cstime of /proc/self/stat, 100 ticks a second). */
async function childCpu(): Promise<number> {
  const { readFile } = await import('node:fs/promises');
  const text = await readFile('/proc/self/stat', 'utf8').catch(() => undefined);
  if (text === undefined) return resourceUsage().userCPUTime / 1e6;
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[13]) + Number(fields[14])) / 100;
}
