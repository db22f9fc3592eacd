import { toError } from '../errors.ts';

/** What a probe said: its newest value, or why there is none now and the last value there was. */
export type Reading<T> =
  | { readonly ok: true; readonly value: T }
  | {
      readonly ok: false;
      readonly error: string;
      readonly last?: { readonly value: T; readonly ageSeconds: number };
    };

/**
 * Makes a probe safe to ask at any rate: it has `budgetMs` to answer, callers share one run, an answer is used for
 * `cacheMs`, a failure is data. A run that exceeds its budget goes on, and its answer serves later readings.
 */
export function budgeted<T>(
  probe: () => T | Promise<T>,
  options: { budgetMs: number; cacheMs: number },
): () => Promise<Reading<T>> {
  let newest: { value: T; at: number } | undefined;
  let failure: { error: string; at: number } | undefined;
  let running: Promise<void> | undefined;

  const run = async (): Promise<void> => {
    try {
      newest = { value: await probe(), at: performance.now() };
      failure = undefined;
    } catch (thrown) {
      failure = { error: toError(thrown).message, at: performance.now() };
    } finally {
      running = undefined;
    }
  };

  const failed = (error: string): Reading<T> => ({
    ok: false,
    error,
    ...(newest === undefined
      ? {}
      : { last: { value: newest.value, ageSeconds: (performance.now() - newest.at) / 1000 } }),
  });

  return async () => {
    const now = performance.now();
    if (failure !== undefined && now - failure.at < options.cacheMs) return failed(failure.error);
    if (failure === undefined && newest !== undefined && now - newest.at < options.cacheMs) {
      return { ok: true, value: newest.value };
    }
    running ??= run();
    const late = Symbol('late');
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<typeof late>((resolve) => {
      timer = setTimeout(() => resolve(late), options.budgetMs);
    });
    const outcome = await Promise.race([running, deadline]);
    clearTimeout(timer);
    if (outcome === late) return failed(`no answer within ${options.budgetMs} ms`);
    if (failure !== undefined) return failed(failure.error);
    return newest === undefined ? failed('no answer yet') : { ok: true, value: newest.value };
  };
}
