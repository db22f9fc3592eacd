import type { Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { CanceledError, StorageError, toError } from '../errors.ts';
import { assertRange } from './local-object.ts';
import { ReadAhead } from './read-ahead.ts';
import { isPreconditionFailed, s3Error } from './s3-errors.ts';
import type { S3Requests } from './s3-requests.ts';
import type { ObjectInfo, StoredObject } from './types.ts';

export type S3ObjectOptions = {
  readonly requests: S3Requests;
  /** Key in the bucket. */
  readonly fullKey: string;
  /** For messages: the object's URL. */
  readonly url: string;
  readonly info: ObjectInfo;
  readonly signal: AbortSignal | undefined;
  /** Every byte of a body that arrives, also of a body that breaks off or that nobody waits for any more. */
  readonly count: (bytes: number) => void;
};

/** How long `close` takes in what was asked for and is on its way, ms. */
const DRAIN_MS = 2_000;

/**
 * An object read by ranged GETs, each pinned to the version that was opened (If-Match). Neighbouring reads are
 * answered from larger requests (`ReadAhead`); a body that breaks off is continued where it ended.
 *
 * What is counted is what arrives here. A reader that stops early takes in the requests under way, a few MiB at most, so
 * that the count is what the store sent, and the connections can be used again. Where that is cut short, after two seconds
 * or by the signal, the store may have sent more than is counted: what the network held then.
 */
export class S3Object implements StoredObject {
  readonly info: ObjectInfo;
  readonly #options: S3ObjectOptions;
  readonly #ahead: ReadAhead;
  readonly #abort = new AbortController();
  readonly #signal: AbortSignal;
  #closing = false;

  constructor(options: S3ObjectOptions) {
    this.info = options.info;
    this.#options = options;
    const { signal } = options;
    this.#signal = signal === undefined ? this.#abort.signal : AbortSignal.any([signal, this.#abort.signal]);
    this.#ahead = new ReadAhead(options.info.size, (start, end) => this.#fetch(start, end));
  }

  async size(): Promise<bigint> {
    return BigInt(this.info.size);
  }

  async read(offset: bigint, length: bigint): Promise<Uint8Array> {
    assertRange(this.#options.url, BigInt(this.info.size), offset, length);
    return this.#ahead.read(Number(offset), Number(length));
  }

  willRead(offset: bigint, length: bigint): void {
    assertRange(this.#options.url, BigInt(this.info.size), offset, length);
    this.#ahead.willRead(Number(offset), Number(length));
  }

  async close(): Promise<void> {
    this.#closing = true;
    const cut = setTimeout(() => this.#abort.abort(new CanceledError('cancelled')), DRAIN_MS);
    try {
      await this.#ahead.close();
    } finally {
      clearTimeout(cut);
    }
  }

  /** Bytes `[start, end)`, however many requests that takes. */
  async #fetch(start: number, end: number): Promise<Uint8Array> {
    const { requests, url } = this.#options;
    const buffer = Buffer.allocUnsafeSlow(end - start);
    let filled = 0;
    let begun = false;
    const outcome = await requests.ownRetry(this.#signal)(async () => {
      // nobody waits for it any more
      if (this.#closing && begun) throw new CanceledError('cancelled');
      begun = true;
      try {
        await this.#receive(start + filled, end, (piece) => {
          if (filled + piece.length > buffer.length) {
            throw brokenBody(`${url} sent more than the ${buffer.length} bytes that were asked for`);
          }
          buffer.set(piece, filled);
          filled += piece.length;
        });
      } catch (thrown) {
        // a changed object stays changed: no use in trying again here
        if (isPreconditionFailed(thrown)) return 'changed';
        throw thrown;
      }
      if (filled < buffer.length) {
        throw brokenBody(`${url} sent ${filled} of ${buffer.length} bytes that were asked for`);
      }
      return 'complete';
    });
    if (outcome === 'complete') return buffer;
    throw new StorageError(`${url} changed while it was being read`, { retryable: true, reason: 'other' });
  }

  /** One request; each piece is taken as it arrives, so that none is lost when the next one does not. */
  async #receive(start: number, end: number, take: (piece: Uint8Array) => void): Promise<void> {
    const { requests, fullKey, url, info, count } = this.#options;
    const signal = this.#signal;
    const what = `read ${url} at ${start}`;
    const answer = await requests.send(what, signal, (client, sdk, http) =>
      client.send(
        new sdk.GetObjectCommand({
          Bucket: requests.bucket,
          Key: fullKey,
          Range: `bytes=${start}-${end - 1}`,
          IfMatch: `"${info.etag}"`,
        }),
        http,
      ),
    );
    const expected = `bytes ${start}-${end - 1}/${info.size}`;
    if (answer.ContentRange !== expected) {
      throw brokenBody(
        `expected range "${expected}" of ${url}, found "${answer.ContentRange ?? 'the whole object'}"`,
      );
    }
    const body = answer.Body as Readable;
    body.on('data', (piece: Uint8Array) => {
      count(piece.length);
      try {
        take(piece);
      } catch (thrown) {
        body.destroy(toError(thrown));
      }
    });
    try {
      await finished(body);
    } catch (thrown) {
      throw thrown instanceof StorageError ? thrown : s3Error(thrown, what, signal);
    }
  }
}

function brokenBody(message: string): StorageError {
  return new StorageError(message, { retryable: true, reason: 'network' });
}
