import { isNoSuchUpload } from './s3-errors.ts';
import type { S3Requests } from './s3-requests.ts';

/** A multipart upload that was begun and neither completed nor aborted. */
export type UnfinishedUpload = { readonly fullKey: string; readonly id: string; readonly startedAt: number };

/** A part the store holds; `sha256` in base64 where the store tells it. */
export type StoredPart = {
  readonly number: number;
  readonly size: number;
  readonly etag: string;
  readonly sha256: string | undefined;
};

const MiB = 1_048_576;
const MIN_PART = 5 * MiB;
const MAX_PARTS = 10_000;

/**
 * The size of all parts but the last, bytes: `preferred`, or what 10,000 parts need, in whole MiB. A function of the
 * file's size alone, so that another attempt cuts the file at the same places.
 */
export function partSizeFor(size: number, preferred = 8 * MiB): number {
  return Math.max(MIN_PART, preferred, Math.ceil(size / MAX_PARTS / MiB) * MiB);
}

/** Unfinished uploads of keys that start with `prefix`; `url` is for messages. */
export async function* unfinishedUploads(
  requests: S3Requests,
  prefix: string,
  url: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<UnfinishedUpload> {
  let marker: { KeyMarker?: string; UploadIdMarker?: string } | undefined = {};
  while (marker !== undefined) {
    const from: { KeyMarker?: string; UploadIdMarker?: string } = marker;
    const page = await requests.ownRetry(signal)(() =>
      requests.send(`list unfinished uploads of ${url}`, signal, (client, sdk, http) =>
        client.send(
          new sdk.ListMultipartUploadsCommand({ Bucket: requests.bucket, Prefix: prefix, ...from }),
          http,
        ),
      ),
    );
    for (const upload of page.Uploads ?? []) {
      if (upload.Key === undefined || upload.UploadId === undefined) continue;
      yield { fullKey: upload.Key, id: upload.UploadId, startedAt: upload.Initiated?.getTime() ?? 0 };
    }
    marker =
      page.IsTruncated && page.NextKeyMarker !== undefined
        ? {
            KeyMarker: page.NextKeyMarker,
            ...(page.NextUploadIdMarker === undefined ? {} : { UploadIdMarker: page.NextUploadIdMarker }),
          }
        : undefined;
  }
}

/** The parts of an upload that the store holds. Throws as `isNoSuchUpload` knows it when the upload is gone. */
export async function storedParts(
  requests: S3Requests,
  upload: UnfinishedUpload,
  url: string,
  signal: AbortSignal | undefined,
): Promise<StoredPart[]> {
  const parts: StoredPart[] = [];
  let marker: string | undefined;
  do {
    const page = await requests.ownRetry(signal)(() =>
      requests.send(`list the parts of ${url}`, signal, (client, sdk, http) =>
        client.send(
          new sdk.ListPartsCommand({
            Bucket: requests.bucket,
            Key: upload.fullKey,
            UploadId: upload.id,
            ...(marker === undefined ? {} : { PartNumberMarker: marker }),
          }),
          http,
        ),
      ),
    );
    for (const { PartNumber, Size, ETag, ChecksumSHA256 } of page.Parts ?? []) {
      if (PartNumber === undefined || ETag === undefined) continue;
      parts.push({ number: PartNumber, size: Size ?? 0, etag: ETag, sha256: ChecksumSHA256 });
    }
    marker = page.IsTruncated ? page.NextPartNumberMarker : undefined;
  } while (marker !== undefined);
  return parts;
}

/** Gives an upload up; the store frees its parts. Gone already is fine. */
export async function abortUpload(
  requests: S3Requests,
  upload: UnfinishedUpload,
  url: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    await requests.send(`abort an upload of ${url}`, signal, (client, sdk, http) =>
      client.send(
        new sdk.AbortMultipartUploadCommand({
          Bucket: requests.bucket,
          Key: upload.fullKey,
          UploadId: upload.id,
        }),
        http,
      ),
    );
  } catch (thrown) {
    if (!isNoSuchUpload(thrown)) throw thrown;
  }
}
