import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Feature } from '../frame/types.ts';
import { dataColumns, featureColumn, huggingfaceFooter } from './columns.ts';
import { type ChunkFile, DATA_FILES_SIZE_MB, dataPath, nextPlace } from './layout.ts';
import { ParquetFile, type RowGroupData } from './parquet.ts';

/** A file handed out by finalize, in the order it has to appear. */
export type EmittedFile = {
  readonly path: string;
  readonly type: 'parquet' | 'video' | 'meta';
  /** Bytes, or a local file that may be gone once the promise has resolved. */
  readonly body: { readonly bytes: Uint8Array } | { readonly path: string };
};
export type Emit = (file: EmittedFile) => Promise<void>;

const MIB = 1024 * 1024;

/**
 * Packs episodes into data files. A new file begins when the current one, grown by the episode at its present bytes per
 * frame, would reach the limit (lerobot `_save_episode_data`); an episode is never cut.
 */
export class DataPacker {
  readonly #features: readonly Feature[];
  readonly #scratch: string;
  readonly #emit: Emit;
  readonly #limit: number;
  #at: ChunkFile = { chunk: 0, file: 0 };
  #file: ParquetFile | undefined;
  #frames = 0;

  /** @param limit size in bytes at which a new file begins */
  constructor(features: readonly Feature[], scratch: string, emit: Emit, limit = DATA_FILES_SIZE_MB * MIB) {
    this.#features = dataColumns(features);
    this.#scratch = scratch;
    this.#emit = emit;
    this.#limit = limit;
  }

  /** Makes room for an episode and says which file it goes to. */
  async startEpisode(frames: number): Promise<ChunkFile> {
    if (this.#file && this.#frames > 0) {
      const grown = this.#file.bytes + (this.#file.bytes / this.#frames) * frames;
      if (grown >= this.#limit) {
        await this.#close();
        this.#at = nextPlace(this.#at);
      }
    }
    this.#file ??= await ParquetFile.create(this.#local, this.#features.map(featureColumn), {
      huggingface: huggingfaceFooter(this.#features),
    });
    this.#frames += frames;
    return this.#at;
  }

  async write(rows: RowGroupData): Promise<void> {
    if (!this.#file) throw new Error('no episode was started');
    await this.#file.write(rows);
  }

  async finish(): Promise<void> {
    await this.#close();
  }

  /** Closes what is open; the scratch folder is the caller's. */
  async abort(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.abort();
  }

  get #local(): string {
    return join(this.#scratch, `data-${this.#at.chunk}-${this.#at.file}.parquet`);
  }

  async #close(): Promise<void> {
    const file = this.#file;
    if (!file) return;
    await file.finish();
    this.#file = undefined;
    this.#frames = 0;
    await this.#emit({ path: dataPath(this.#at), type: 'parquet', body: { path: this.#local } });
    await rm(this.#local, { force: true });
  }
}
