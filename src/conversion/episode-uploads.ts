import { join } from 'node:path';
import { manifestPath } from '../dataset/layout.ts';
import { serializeManifest } from '../dataset/manifest.ts';
import { StorageError } from '../errors.ts';
import type { UploadCoordinator } from '../storage/coordinator.ts';
import type { UploadedFile, UploadStats } from '../storage/types.ts';
import type { Checkpoint } from './checkpoint.ts';
import type { ClosedFile } from './produce.ts';
import type { StageProgress } from './progress.ts';
import type { ConversionContext } from './types.ts';
import { openUploads } from './uploads.ts';

/**
 * Sends the files of one recording: each as soon as it is closed, while others are still written, and the manifest, the
 * one write that makes the episode exist, when all are verified and stored. Until then nobody reads them.
 */
export class EpisodeUploads {
  readonly #context: ConversionContext;
  readonly #progress: StageProgress;
  readonly #coordinator: UploadCoordinator;
  /** What becomes of the files handed in so far, by key. */
  readonly #files = new Map<string, Promise<UploadedFile>>();
  /** Acknowledged bytes by key. */
  readonly #sent = new Map<string, number>();
  /** Bytes of all files, once they are known. */
  #total = 0;

  constructor(context: ConversionContext, progress: StageProgress) {
    this.#context = context;
    this.#progress = progress;
    this.#coordinator = openUploads(context, ({ key, bytes }) => {
      this.#sent.set(key, bytes);
      this.#report();
    });
  }

  /** Keys of the files handed in so far, stored or not. */
  get keys(): { readonly size: number } {
    return this.#files;
  }

  /** Begins to send a file; a failure is thrown by `publish`. */
  add({ key, type, localPath }: ClosedFile): void {
    if (this.#files.has(key)) return;
    const stored = this.#coordinator.add({ key, type, body: { path: localPath } });
    stored.catch(() => {});
    this.#files.set(key, stored);
  }

  /**
   * Sends what is left of a verified recording whose files lie in `folder`, then its manifest, under the condition that
   * nobody else published meanwhile: `before` is the version of the manifest that was there at the start.
   */
  async publish(
    { manifest, files }: Checkpoint,
    folder: string,
    before: string | undefined,
  ): Promise<UploadStats> {
    this.#progress.enter('upload');
    this.#total = manifest.files.reduce((sum, file) => sum + file.bytes, 0);
    this.#report();
    for (const { path, type } of manifest.files) {
      const local = files[path];
      if (local === undefined) throw new Error(`the checkpoint does not say where ${path} lies`);
      this.add({ key: path, type, localPath: join(folder, local) });
    }
    // What is not stored is told by the coordinator, all of it in one sentence.
    await Promise.allSettled(this.#files.values());
    for (const { path, sha256 } of manifest.files) {
      const stored = await this.#files.get(path)?.catch(() => undefined);
      if (stored !== undefined && stored.sha256 !== sha256) throw damaged(path, sha256, stored.sha256);
    }
    const bytes = serializeManifest(manifest);
    await this.#coordinator.publish(
      { key: manifestPath(manifest.key), type: 'meta', body: { bytes } },
      before === undefined ? { ifAbsent: true } : { ifMatch: before },
    );
    return this.#coordinator.stats();
  }

  /** What is stored so far. */
  stats(): UploadStats {
    return this.#coordinator.stats();
  }

  /** Stops what is in flight; harmless after success, and twice. `again`: half-sent files stay for another attempt. */
  close(again = true): Promise<void> {
    return this.#coordinator.close(again ? 'shutdown' : 'cancelled');
  }

  /** Takes back the files of an attempt that gets no manifest; one that stays is nobody's but harmless. */
  async withdraw(): Promise<void> {
    const { output, log } = this.#context;
    for (const path of this.#files.keys()) {
      try {
        await output.remove(path);
      } catch (thrown) {
        log.warn({ path, err: thrown }, 'a file of a failed episode could not be removed');
      }
    }
  }

  #report(): void {
    if (this.#total === 0 || this.#progress.stage !== 'upload') return;
    let sent = 0;
    for (const bytes of this.#sent.values()) sent += bytes;
    this.#progress.within(Math.min(1, sent / this.#total));
  }
}

/** The bytes that were sent are not those that were written and verified: the recording is converted anew. */
function damaged(path: string, expected: string, sent: string): StorageError {
  return new StorageError(
    `expected ${path} with sha256 ${expected}, sent ${sent}: its file in the scratch folder is damaged`,
    { retryable: true, reason: 'checksum' },
  );
}
