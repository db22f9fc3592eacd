import { setMaxListeners } from 'node:events';
import PQueue from 'p-queue';
import { asCanceled, CanceledError, StorageError, throwIfAborted, toError } from '../errors.ts';
import type { StorageMetrics } from '../metrics/storage.ts';
import type { UploadMetrics } from '../metrics/upload.ts';
import { bodySize, sha256Of } from './sha256.ts';
import { createRetry } from './retry.ts';
import type { PutResult, Storage, UploadedFile, UploadFile, UploadProgress, UploadStats } from './types.ts';

export type UploadCoordinatorOptions = {
  readonly storage: Storage;
  /** Files in flight at once. */
  readonly concurrency: number;
  /** Tries of one step (one file of a folder, one request of a bucket), the first included. */
  readonly maxAttempts: number;
  readonly metrics: { readonly storage: StorageMetrics; readonly upload: UploadMetrics };
  readonly signal: AbortSignal;
  readonly log?: { warn(fields: object, message: string): void } | undefined;
  readonly onProgress?: ((progress: UploadProgress) => void) | undefined;
  /** Upper bound of the first wait before a further try, ms; default 250. */
  readonly retryBaseMs?: number | undefined;
};

/** How a manifest may be written: only when there is none, or only over the version that was read. */
export type PublishCondition = { readonly ifAbsent: true } | { readonly ifMatch: string };

/**
 * Sends the files of one episode, or of a dataset's tables, to their store.
 *
 * Protocol:
 * 1. `add` takes a finished file at any time; at most `concurrency` are in flight. A file is acknowledged when the store
 *    holds all of it: size re-read from the store, checksum verified by the store (S3) or computed on what was flushed
 *    to disk (files). Failing steps are repeated with growing, jittered waits, counted by reason; refusals (403, 404,
 *    not writable, disk full) are not repeated.
 * 2. `publish` writes the manifest, the one file that makes the others count. It waits until every added file is
 *    acknowledged, and throws instead of writing when one is not. Written with a condition, only one of two attempts
 *    can publish: the other gets a `StorageError` that is not retryable.
 *
 * A crash leaves acknowledged files without a manifest, which nobody reads, and unfinished uploads, which nobody sees.
 * The next attempt finds files of the same size and sha256 in place and does not send them again, continues
 * a multipart upload where it ended, and overwrites everything else.
 */
export class UploadCoordinator {
  readonly #options: UploadCoordinatorOptions;
  readonly #queue: PQueue;
  readonly #abort = new AbortController();
  readonly #signal: AbortSignal;
  /** Outcome of every file handed in, in that order; none of these promises rejects. */
  readonly #outcomes: Promise<Outcome>[] = [];
  readonly #inFlight = new Set<string>();
  #state: 'open' | 'closed' = 'open';
  #startedAt: number | undefined;
  #endedAt: number | undefined;
  #added = 0;
  #files = 0;
  #reused = 0;
  #bytes = 0;
  #retries = 0;

  constructor(options: UploadCoordinatorOptions) {
    this.#options = options;
    this.#queue = new PQueue({ concurrency: options.concurrency });
    this.#signal = AbortSignal.any([options.signal, this.#abort.signal]);
    setMaxListeners(0, this.#signal); // every request in flight listens
  }

  /**
   * Sends a file; resolves when it is acknowledged. The body must not change before that. A rejection need not be
   * handled here: `publish` throws it too.
   */
  add(file: UploadFile): Promise<UploadedFile> {
    return this.#accept(file, () => this.#queue.add(() => this.#send(file)));
  }

  /**
   * Writes the manifest after everything else; see the protocol above. Throws the failure of the first file that was
   * not stored, naming all of them.
   */
  publish(file: UploadFile, condition?: PublishCondition): Promise<UploadedFile> {
    const added = [...this.#outcomes];
    return this.#accept(file, async () => {
      assertAllStored(await Promise.all(added));
      return this.#send(file, condition);
    });
  }

  /** What is acknowledged so far. */
  stats(): UploadStats {
    const ended = this.#endedAt ?? this.#startedAt ?? 0;
    return {
      files: this.#files,
      bytes: this.#bytes,
      retries: this.#retries,
      seconds: (ended - (this.#startedAt ?? ended)) / 1000,
      reused: this.#reused,
    };
  }

  /**
   * Stops what is still in flight and waits until nothing is; what is half sent stays for the next attempt, or goes when
   * there will be none (`cancelled`). Harmless after success, and twice.
   */
  async close(reason: 'shutdown' | 'cancelled' = 'shutdown'): Promise<void> {
    this.#state = 'closed';
    if (this.#inFlight.size > 0) this.#abort.abort(new CanceledError(reason));
    await Promise.all(this.#outcomes);
  }

  #accept(file: UploadFile, send: () => Promise<UploadedFile>): Promise<UploadedFile> {
    if (this.#state === 'closed') throw new Error(`upload of ${file.key} after close`);
    if (this.#inFlight.has(file.key)) throw new Error(`${file.key} is being uploaded already`);
    this.#startedAt ??= performance.now();
    this.#inFlight.add(file.key);
    this.#added++;
    this.#options.metrics.upload.pending.inc();
    const result = send().finally(() => {
      this.#inFlight.delete(file.key);
      this.#options.metrics.upload.pending.dec();
    });
    this.#outcomes.push(
      result.then(
        () => ({ key: file.key }),
        (thrown: unknown) => ({ key: file.key, error: toError(thrown) }),
      ),
    );
    return result;
  }

  async #send(file: UploadFile, condition?: PublishCondition): Promise<UploadedFile> {
    throwIfAborted(this.#signal);
    const size = await bodySize(file.body);
    const { inflightBytes } = this.#options.metrics.upload;
    inflightBytes.inc(size);
    try {
      return await this.#store(file, size, condition);
    } finally {
      inflightBytes.dec(size);
    }
  }

  async #store(file: UploadFile, size: number, condition?: PublishCondition): Promise<UploadedFile> {
    const before = condition === undefined ? await this.#alreadyStored(file, size) : undefined;
    if (before !== undefined) {
      this.#reused++;
      return this.#acknowledged(file, before);
    }
    const { storage, metrics } = this.#options;
    const startedAt = performance.now();
    const stored = await storage.put(file.key, file.body, {
      ...condition,
      signal: this.#signal,
      retry: this.#retryOf(file),
      onProgress: (bytes) => this.#report(file.key, bytes, size),
    });
    if (stored.size !== size) {
      throw new StorageError(`expected ${size} bytes of ${file.key} in the store, found ${stored.size}`, {
        retryable: true,
        reason: 'checksum',
      });
    }
    metrics.upload.duration.observe({ file_type: file.type }, (performance.now() - startedAt) / 1000);
    metrics.upload.bytes.inc(size);
    metrics.storage.bytesWritten.inc({ destination: storage.kind, type: file.type }, size);
    this.#bytes += size;
    return this.#acknowledged(file, stored);
  }

  #acknowledged(file: UploadFile, stored: PutResult): UploadedFile {
    this.#files++;
    this.#endedAt = performance.now();
    this.#report(file.key, stored.size, stored.size);
    return { key: file.key, type: file.type, bytes: stored.size, sha256: stored.sha256, etag: stored.etag };
  }

  /** The same bytes under the same key, left by an earlier attempt. */
  async #alreadyStored(file: UploadFile, size: number): Promise<PutResult | undefined> {
    const { storage } = this.#options;
    const found = await storage.head(file.key, { signal: this.#signal });
    if (found?.size !== size) return undefined;
    const stored = await storage.sha256(file.key, { signal: this.#signal });
    if (stored === undefined) return undefined;
    const ours = await sha256Of(file.body, this.#signal);
    return ours === stored ? { ...found, sha256: ours } : undefined;
  }

  #retryOf(file: UploadFile) {
    const { maxAttempts, retryBaseMs, metrics, log } = this.#options;
    return createRetry({
      maxAttempts,
      signal: this.#signal,
      baseMs: retryBaseMs,
      onRetry: (error, attempt, waitMs) => {
        this.#retries++;
        metrics.upload.retries.inc({ reason: error.reason });
        log?.warn(
          { key: file.key, reason: error.reason, attempt, waitMs, err: error },
          'upload is tried again',
        );
      },
    });
  }

  #report(key: string, bytes: number, size: number): void {
    this.#options.onProgress?.({
      key,
      bytes,
      size,
      filesDone: this.#files,
      files: this.#added,
    });
  }
}

type Outcome = { readonly key: string; readonly error?: Error };

function assertAllStored(outcomes: readonly Outcome[]): void {
  const failed = outcomes.filter((outcome) => outcome.error !== undefined);
  const first = failed[0]?.error;
  if (first === undefined) return;
  const canceled = failed.find((outcome) => outcome.error instanceof CanceledError)?.error;
  if (canceled !== undefined) throw asCanceled(canceled);
  if (!(first instanceof StorageError)) throw first;
  const names = failed.map((outcome) => `${outcome.key}: ${outcome.error?.message}`).join('; ');
  throw new StorageError(`${failed.length} of ${outcomes.length} files were not stored (${names})`, {
    retryable: failed.every(({ error }) => error instanceof StorageError && error.retryable),
    reason: first.reason,
    cause: first,
  });
}
