import { readFile } from 'node:fs/promises';

/** Where Linux has them in `/proc/PID/stat`, after the name; 100 ticks a second. */
const FIELDS = { utime: 11, stime: 12, cutime: 13, cstime: 14 } as const;

/** CPU seconds of a process; the `c` ones are of children it waited for. NaN where the system does not tell. */
export async function cpuOf(pid: number | 'self', parts: readonly (keyof typeof FIELDS)[]): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  if (text === undefined) return Number.NaN;
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return parts.reduce((sum, part) => sum + Number(fields[FIELDS[part]]), 0) / 100;
}
