import { StorageError } from '../errors.ts';
import type { StorageMetrics } from '../metrics/storage.ts';
import { assertKey, assertPrefix, isKey } from './keys.ts';
import { bucketAndKey, locationOf } from './location.ts';
import { abortUpload, unfinishedUploads } from './s3-multipart.ts';
import { S3Object } from './s3-object.ts';
import { S3Requests } from './s3-requests.ts';
import { headObject, plainEtag, type S3Head } from './s3-target.ts';
import { putObject } from './s3-upload.ts';
import type {
  ObjectInfo,
  PutBody,
  PutOptions,
  PutResult,
  S3Settings,
  Storage,
  StoredObject,
} from './types.ts';

export type S3StorageOptions = {
  readonly metrics: StorageMetrics;
  /** Bodies read from a source are counted. */
  readonly role: 'source' | 'destination';
  readonly settings: S3Settings;
};

/**
 * A bucket, or the keys below a prefix of it, as a store. How objects are written is told at `putObject`, how they are
 * read at `S3Object`. Listings leave out folder markers (keys that end in a slash) and keys that are no paths.
 */
export class S3Storage implements Storage {
  readonly kind = 's3';
  readonly url: string;
  readonly #location: URL;
  readonly #prefix: string;
  readonly #requests: S3Requests;
  readonly #options: S3StorageOptions;

  /** `location` is `s3://bucket` or `s3://bucket/prefix`. */
  constructor(location: URL, options: S3StorageOptions) {
    const { bucket, key } = bucketAndKey(location);
    this.url = location.href;
    this.#location = location;
    this.#prefix = key === '' ? '' : `${key}/`;
    this.#requests = new S3Requests(bucket, options.settings);
    this.#options = options;
  }

  async head(key: string, options: { signal?: AbortSignal } = {}): Promise<ObjectInfo | undefined> {
    assertKey(key);
    const found = await this.#lookUp(key, options.signal);
    return found === undefined ? undefined : { key, size: found.size, etag: found.etag };
  }

  async open(key: string, options: { signal?: AbortSignal } = {}): Promise<StoredObject> {
    const info = await this.head(key, options);
    const url = this.#urlOf(key);
    if (info === undefined) {
      throw new StorageError(`expected an object at ${url}, found none`, {
        retryable: false,
        reason: 'other',
      });
    }
    const { metrics, role } = this.#options;
    return new S3Object({
      requests: this.#requests,
      fullKey: this.#prefix + key,
      url,
      info,
      signal: options.signal,
      count: role === 'source' ? (bytes) => metrics.bytesRead.inc({ source: 's3' }, bytes) : () => {},
    });
  }

  async put(key: string, body: PutBody, options: PutOptions = {}): Promise<PutResult> {
    assertKey(key);
    const target = { requests: this.#requests, fullKey: this.#prefix + key, url: this.#urlOf(key), options };
    return { key, ...(await putObject(target, body, this.#options.settings)) };
  }

  async *list(
    prefix: string,
    options: { signal?: AbortSignal; depth?: number } = {},
  ): AsyncIterable<ObjectInfo> {
    assertPrefix(prefix);
    const { signal, depth = Infinity } = options;
    const base = prefix.lastIndexOf('/') + 1;
    const what = `list ${this.#urlOf(prefix)}`;
    let token: string | undefined;
    do {
      const page = await this.#requests.ownRetry(signal)(() =>
        this.#requests.send(what, signal, (client, sdk, http) =>
          client.send(
            new sdk.ListObjectsV2Command({
              Bucket: this.#requests.bucket,
              Prefix: this.#prefix + prefix,
              ...(depth === 1 ? { Delimiter: '/' } : {}),
              ...(token === undefined ? {} : { ContinuationToken: token }),
            }),
            http,
          ),
        ),
      );
      for (const item of page.Contents ?? []) {
        const key = item.Key?.slice(this.#prefix.length);
        if (key === undefined || item.ETag === undefined || !isKey(key)) continue;
        if (key.slice(base).split('/').length > depth) continue;
        yield { key, size: item.Size ?? 0, etag: plainEtag(item.ETag) };
      }
      token = page.IsTruncated ? page.NextContinuationToken : undefined;
    } while (token !== undefined);
  }

  async remove(key: string, options: { signal?: AbortSignal } = {}): Promise<void> {
    assertKey(key);
    const { signal } = options;
    await this.#requests.ownRetry(signal)(() =>
      this.#requests.send(`remove ${this.#urlOf(key)}`, signal, (client, sdk, http) =>
        client.send(
          new sdk.DeleteObjectCommand({ Bucket: this.#requests.bucket, Key: this.#prefix + key }),
          http,
        ),
      ),
    );
  }

  async sha256(key: string, options: { signal?: AbortSignal } = {}): Promise<string | undefined> {
    assertKey(key);
    return (await this.#lookUp(key, options.signal))?.sha256;
  }

  async sweep(prefix: string, options: { olderThanMs: number; signal?: AbortSignal }): Promise<number> {
    assertPrefix(prefix);
    const { signal, olderThanMs } = options;
    const retry = this.#requests.ownRetry(signal);
    let aborted = 0;
    for await (const upload of unfinishedUploads(this.#requests, this.#prefix + prefix, this.url, signal)) {
      if (Date.now() - upload.startedAt < olderThanMs) continue;
      await retry(() => abortUpload(this.#requests, upload, this.url, signal));
      aborted++;
    }
    return aborted;
  }

  #lookUp(key: string, signal: AbortSignal | undefined): Promise<S3Head | undefined> {
    return headObject({
      requests: this.#requests,
      fullKey: this.#prefix + key,
      url: this.#urlOf(key),
      options: signal === undefined ? {} : { signal },
      retry: this.#requests.ownRetry(signal),
    });
  }

  #urlOf(key: string): string {
    return locationOf(this.#location, key).href;
  }
}
