/** One number that two runs have in common. */
export type Change = {
  readonly where: string;
  readonly before: number;
  readonly now: number;
  readonly ratio: number;
};

/** Every measured number of a saved run beside that of this one, by its place; goals and sizes are left out. */
export function changes(before: { results: unknown }, now: { results: unknown }): Change[] {
  const old = new Map(numbers(before.results, ''));
  return [...numbers(now.results, '')].flatMap(([where, value]) => {
    const was = old.get(where);
    if (was === undefined || was === value) return [];
    return [{ where, before: was, now: value, ratio: Math.round((value / was) * 100) / 100 }];
  });
}

function* numbers(value: unknown, where: string): Generator<[string, number]> {
  if (typeof value === 'number') yield [where, value];
  if (typeof value !== 'object' || value === null) return;
  for (const [key, inner] of Object.entries(value)) {
    yield* numbers(inner, where === '' ? key : `${where}.${key}`);
  }
}
