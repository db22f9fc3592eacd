import { setTimeout as delay } from 'node:timers/promises';
import { asCanceled, StorageError, throwIfAborted, type StorageReason } from '../errors.ts';
import type { Retry } from './types.ts';

export type RetryOptions = {
  /** Tries of one step, the first included. */
  readonly maxAttempts: number;
  readonly signal?: AbortSignal | undefined;
  /** Called before the wait that precedes a further try. */
  readonly onRetry?: ((error: StorageError, attempt: number, waitMs: number) => void) | undefined;
  /** Upper bound of the first wait, ms; doubles with every try up to `capMs`. */
  readonly baseMs?: number | undefined;
  readonly capMs?: number | undefined;
};

/** A store that asks to slow down is left alone longer. */
const PATIENCE: Partial<Record<StorageReason, number>> = { throttled: 4 };

/**
 * A `Retry` that repeats retryable `StorageError`s after an exponential wait with equal jitter (half fixed, half
 * random), so that the workers of a fleet do not come back together. Every other error is thrown at once, an abort as
 * `CanceledError`.
 */
export function createRetry(options: RetryOptions): Retry {
  const { maxAttempts, signal, onRetry, baseMs = 250, capMs = 20_000 } = options;
  return async (step) => {
    for (let attempt = 1; ; attempt++) {
      throwIfAborted(signal);
      try {
        return await step();
      } catch (thrown) {
        throwIfAborted(signal);
        if (!(thrown instanceof StorageError) || !thrown.retryable || attempt >= maxAttempts) throw thrown;
        const bound = Math.min(capMs, baseMs * (PATIENCE[thrown.reason] ?? 1) * 2 ** (attempt - 1));
        const waitMs = bound / 2 + (Math.random() * bound) / 2;
        onRetry?.(thrown, attempt, waitMs);
        await pause(waitMs, signal);
      }
    }
  };
}

/** Waits `ms`; an abort ends it with `CanceledError`. */
export async function pause(ms: number, signal?: AbortSignal): Promise<void> {
  try {
    await delay(ms, undefined, signal === undefined ? {} : { signal });
  } catch (thrown) {
    if (signal?.aborted) throw asCanceled(signal.reason);
    throw thrown;
  }
}

/** One try, no more. */
export const once: Retry = (step) => step();
