/**
 * Maps `items` with `load`, keeping up to `depth` loads under way, and yields the results in order. When the consumer
 * stops early or a load fails, results still under way are awaited and given to `discard`.
 */
export async function* readAhead<T, R>(
  items: AsyncIterable<T> | Iterable<T>,
  depth: number,
  load: (item: T) => Promise<R>,
  discard: (result: R) => Promise<void> = async () => {},
): AsyncGenerator<R> {
  const pending: Promise<R>[] = [];
  try {
    for await (const item of items) {
      const loading = load(item);
      // Its failure is reported when its turn comes.
      loading.catch(() => {});
      pending.push(loading);
      if (pending.length >= depth) yield await (pending.shift() as Promise<R>);
    }
    while (pending.length > 0) yield await (pending.shift() as Promise<R>);
  } finally {
    for (const each of await Promise.allSettled(pending)) {
      if (each.status === 'fulfilled') await discard(each.value);
    }
  }
}
