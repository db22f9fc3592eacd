import { isNotFound } from './s3-errors.ts';
import type { S3Requests } from './s3-requests.ts';
import type { PutOptions, Retry } from './types.ts';

/** An object on its way into a bucket. */
export type S3Target = {
  readonly requests: S3Requests;
  /** Key in the bucket, and the object's URL for messages. */
  readonly fullKey: string;
  readonly url: string;
  readonly options: PutOptions;
  readonly retry: Retry;
};

/** What HEAD tells of an object; `sha256` (hex) when it was recorded by `putObject`. */
export type S3Head = { readonly size: number; readonly etag: string; readonly sha256: string | undefined };

/** What the store tells of an object; undefined when there is none. */
export async function headObject(
  target: Omit<S3Target, 'options'> & { options: { signal?: AbortSignal } },
): Promise<S3Head | undefined> {
  const { requests, fullKey, url, options, retry } = target;
  return retry(async () => {
    try {
      const found = await requests.send(`look up ${url}`, options.signal, (client, sdk, http) =>
        client.send(new sdk.HeadObjectCommand({ Bucket: requests.bucket, Key: fullKey }), http),
      );
      const recorded = found.Metadata?.sha256;
      return {
        size: found.ContentLength ?? 0,
        etag: plainEtag(found.ETag ?? ''),
        sha256: recorded !== undefined && /^[0-9a-f]{64}$/.test(recorded) ? recorded : undefined,
      };
    } catch (thrown) {
      if (isNotFound(thrown)) return undefined;
      throw thrown;
    }
  });
}

/** An ETag without its quotes. */
export function plainEtag(etag: string): string {
  return etag.replace(/^"|"$/g, '');
}

/** The headers of a condition. */
export function conditionOf(options: PutOptions): { IfNoneMatch?: string; IfMatch?: string } {
  if (options.ifAbsent) return { IfNoneMatch: '*' };
  return options.ifMatch === undefined ? {} : { IfMatch: `"${options.ifMatch}"` };
}
