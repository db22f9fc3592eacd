import { appendFile, type FileHandle, open } from 'node:fs/promises';
import { InputError } from '../errors.ts';
import type { CameraStats, EpisodeRange } from './camera-track.ts';
import { HISTOGRAM_SIZE, pictureHistogram, type SampleLayout } from './picture-histogram.ts';
import { nearestCandidates, sampleIndices } from './picture-sampling.ts';
import { pictureStats } from './stats.ts';

/** Histograms that stay in memory: those of an episode of ten minutes need no file. */
const BLOCK = 128;

/**
 * The histograms of a camera's sampled pictures, for the statistics of episodes whose length is known only at the end.
 * Memory does not grow with the recording: full blocks go to a file of the attempt's folder, which is left to the folder's
 * owner. Nothing has to be closed.
 */
export class PictureSamples {
  readonly #key: string;
  readonly #path: string;
  /** Frame numbers of the pictures, ascending. */
  readonly #frames: number[] = [];
  #block = new Uint32Array(BLOCK * HISTOGRAM_SIZE);
  #inBlock = 0;
  #written: Promise<void> = Promise.resolve();

  /** `path`: the file that blocks go to, which must not exist; `key`: the camera, for messages. */
  constructor(key: string, path: string) {
    this.#key = key;
    this.#path = path;
  }

  /** Counts the picture of a frame that comes after those before. */
  add(frame: number, data: Uint8Array, layout: SampleLayout): void {
    if (this.#inBlock === BLOCK) this.#spill();
    const start = this.#inBlock++ * HISTOGRAM_SIZE;
    pictureHistogram(data, layout, this.#block.subarray(start, start + HISTOGRAM_SIZE));
    this.#frames.push(frame);
  }

  /**
   * Statistics of an episode: for each wanted frame the picture nearest to it. Throws `InputError` when the episode has
   * no picture, the file system's error when a block could not be kept.
   */
  async statsOf({ first, frames }: EpisodeRange): Promise<CameraStats> {
    const from = this.#frames.findIndex((frame) => frame >= first);
    const own = from < 0 ? [] : this.#frames.slice(from).filter((frame) => frame < first + frames);
    if (own.length === 0) {
      throw new InputError(
        `${this.#key}: no picture of frames ${first} to ${first + frames - 1} could be decoded`,
      );
    }
    const targets = sampleIndices(frames).map((index) => first + index);
    const chosen = nearestCandidates(targets, own);
    const uses = new Uint32Array(own.length);
    let place = 0;
    for (const frame of chosen) {
      while (own[place] !== frame) place += 1;
      uses[place] = (uses[place] ?? 0) + 1;
    }
    const sums = await this.#sum(from, uses);
    const histograms = [0, 256, 512].map((start) => Array.from(sums.subarray(start, start + 256)));
    return { stats: pictureStats(histograms, chosen.length), histograms };
  }

  /** The histograms from `first` on added up, each as often as `uses` says. */
  async #sum(first: number, uses: Uint32Array): Promise<Float64Array> {
    await this.#written;
    const sums = new Float64Array(HISTOGRAM_SIZE);
    const spilled = this.#frames.length - this.#inBlock;
    const file = first < spilled ? await open(this.#path, 'r') : undefined;
    try {
      const record = new Uint32Array(HISTOGRAM_SIZE);
      for (const [i, times] of uses.entries()) {
        if (times === 0) continue;
        const at = first + i;
        if (at < spilled) await this.#read(file, record, at);
        const start = (at - spilled) * HISTOGRAM_SIZE;
        addTimes(sums, at < spilled ? record : this.#block.subarray(start, start + HISTOGRAM_SIZE), times);
      }
    } finally {
      await file?.close();
    }
    return sums;
  }

  async #read(file: FileHandle | undefined, record: Uint32Array, at: number): Promise<void> {
    const found = await file?.read(record, 0, record.byteLength, at * record.byteLength);
    if (found?.bytesRead !== record.byteLength) throw new Error(`${this.#path} is cut`);
  }

  #spill(): void {
    const block = Buffer.from(this.#block.buffer);
    this.#block = new Uint32Array(BLOCK * HISTOGRAM_SIZE);
    this.#inBlock = 0;
    this.#written = this.#written.then(() => appendFile(this.#path, block));
    this.#written.catch(() => {}); // thrown by `statsOf`
  }
}

function addTimes(sums: Float64Array, counts: Uint32Array, times: number): void {
  for (let value = 0; value < HISTOGRAM_SIZE; value += 1) {
    sums[value] = (sums[value] ?? 0) + times * (counts[value] ?? 0);
  }
}
