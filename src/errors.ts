/**
 * The few error classes of the product. Each one is a decision some caller makes:
 * an `InputError` is never retried, a `StorageError` says whether it may be, an `EncodeError` is retried,
 * a `CanceledError` is no failure at all. A message says what was expected, what was found, and where.
 */

/** The request, the recording or the configuration is wrong; trying again cannot help. */
export class InputError extends Error {
  override readonly name = 'InputError';
}

/** Why a storage operation failed: the closed set of `roboflow_upload_retries_total{reason}`. */
export type StorageReason = 'timeout' | 'throttled' | 'network' | 'server_error' | 'checksum' | 'other';

/** A store did not do what was asked. `retryable` is false for refusals (not found, forbidden, not writable). */
export class StorageError extends Error {
  override readonly name = 'StorageError';
  readonly retryable: boolean;
  readonly reason: StorageReason;
  constructor(message: string, options: { retryable: boolean; reason: StorageReason; cause?: unknown }) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.retryable = options.retryable;
    this.reason = options.reason;
  }
}

/** The video encoder failed, or is absent. */
export class EncodeError extends Error {
  override readonly name = 'EncodeError';
}

/** Why work was stopped from outside. */
export type CancelReason = 'cancelled' | 'shutdown' | 'lock-lost';

/** The work was stopped through its `AbortSignal`; `reason` says by whom. */
export class CanceledError extends Error {
  override readonly name = 'CanceledError';
  readonly reason: CancelReason;
  constructor(reason: CancelReason, options?: { cause?: unknown }) {
    super(`stopped: ${reason}`, options);
    this.reason = reason;
  }
}

/** Anything may be thrown; this makes it an `Error`. */
export function toError(thrown: unknown): Error {
  if (thrown instanceof Error) return thrown;
  return new Error(typeof thrown === 'string' ? thrown : `non-error thrown: ${String(thrown)}`, {
    cause: thrown,
  });
}

/** Throws on what says nothing about the bytes that were to be read: the store did not answer, or work was stopped. */
export function throwIfUnread(thrown: unknown): void {
  if (thrown instanceof StorageError || thrown instanceof CanceledError) throw thrown;
}

/** Throws the signal's reason as a `CanceledError` when it is aborted. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw asCanceled(signal.reason);
}

/** The reason of an aborted signal as a `CanceledError` (a plain abort counts as `cancelled`). */
export function asCanceled(reason: unknown): CanceledError {
  return reason instanceof CanceledError ? reason : new CanceledError('cancelled', { cause: reason });
}
