import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** Time in a function itself, over all profiles. */
type Busy = { readonly function: string; readonly where: string; readonly ms: number };

type Profile = {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
};

/** The functions that took most time in the `.cpuprofile` files of a folder. */
export async function busiest(folder: string, count = 25): Promise<Busy[]> {
  const times = new Map<string, number>();
  for (const name of await readdir(folder)) {
    if (!name.endsWith('.cpuprofile')) continue;
    const { nodes, samples, timeDeltas } = JSON.parse(await readFile(join(folder, name), 'utf8')) as Profile;
    const frames = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]));
    samples.forEach((id, i) => {
      const frame = frames.get(id);
      if (!frame || frame.functionName === '(idle)') return;
      const place = frame.url.replace(/^.*\/(node_modules|dist)\//, '');
      const key = `${frame.functionName}\t${place}${place === '' ? '' : `:${frame.lineNumber + 1}`}`;
      times.set(key, (times.get(key) ?? 0) + (timeDeltas[i] ?? 0) / 1000);
    });
  }
  return [...times]
    .toSorted(([, a], [, b]) => b - a)
    .slice(0, count)
    .map(([key, ms]) => {
      const [name = '', where = ''] = key.split('\t');
      return { function: name, where, ms: Math.round(ms) };
    });
}
