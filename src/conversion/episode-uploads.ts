import { join } from 'node:path';
import { manifestPath } from '../dataset/layout.ts';
import { serializeManifest } from '../dataset/manifest.ts';
import type { UploadCoordinator } from '../storage/coordinator.ts';
import type { UploadStats } from '../storage/types.ts';
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
  readonly #keys = new Set<string>();
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
  get keys(): ReadonlySet<string> {
    return this.#keys;
  }

  /** Begins to send a file; a failure is thrown by `publish`. */
  add({ key, type, localPath }: ClosedFile): void {
    if (this.#keys.has(key)) return;
    this.#keys.add(key);
    void this.#coordinator.add({ key, type, body: { path: localPath } });
  }

  /** Sends what is left of a verified recording whose files lie in `folder`, then its manifest. */
  async publish({ manifest, files }: Checkpoint, folder: string): Promise<UploadStats> {
    this.#progress.enter('upload');
    this.#total = manifest.files.reduce((sum, file) => sum + file.bytes, 0);
    this.#report();
    for (const { path, type } of manifest.files) {
      const local = files[path];
      if (local === undefined) throw new Error(`the checkpoint does not say where ${path} lies`);
      this.add({ key: path, type, localPath: join(folder, local) });
    }
    const bytes = serializeManifest(manifest);
    await this.#coordinator.publish({ key: manifestPath(manifest.key), type: 'meta', body: { bytes } });
    return this.#coordinator.stats();
  }

  /** Stops what is in flight; harmless after success, and twice. `again`: half-sent files stay for another attempt. */
  close(again = true): Promise<void> {
    return this.#coordinator.close(again ? 'shutdown' : 'cancelled');
  }

  /** Takes back the files of an attempt that gets no manifest; one that stays is nobody's but harmless. */
  async withdraw(): Promise<void> {
    const { output, log } = this.#context;
    for (const path of this.#keys) {
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
