import { setImmediate } from 'node:timers/promises';

/** Longest that work on messages keeps the event loop to itself, ms. */
const SLICE_MS = 10;

/**
 * Cuts long work into slices. Reading, decoding and aligning go from promise to promise, which lets nothing else in: stop
 * orders, the renewal of locks, the end of an encoder. Between slices they have their turn.
 */
export class Slices {
  #began = performance.now();

  /** True when it is the others' turn: then `next` has to be awaited. */
  get over(): boolean {
    return performance.now() - this.#began > SLICE_MS;
  }

  /** Resolves when everything that waited has had its turn. */
  async next(): Promise<void> {
    await setImmediate();
    this.#began = performance.now();
  }
}
