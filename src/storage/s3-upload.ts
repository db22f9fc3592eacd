import { StorageError, throwIfAborted, type StorageReason } from '../errors.ts';
import { withReleasers } from '../releasers.ts';
import { SeekableBody } from './s3-body.ts';
import { isNoSuchUpload, isPreconditionFailed } from './s3-errors.ts';
import { partSizeFor } from './s3-multipart.ts';
import { sendInParts } from './s3-parts.ts';
import { atBuild, payloadHash } from './s3-requests.ts';
import { conditionOf, headObject, type S3Target } from './s3-target.ts';
import type { PutBody, Retry, S3Settings } from './types.ts';

/** Failures after which nobody knows whether the store acted. */
const SILENT: ReadonlySet<StorageReason> = new Set(['timeout', 'network', 'server_error']);

/**
 * Writes one object.
 *
 * Protocol:
 * 1. The sha256 of the whole body is taken first; it becomes metadata of the object.
 * 2. Up to two parts' size: one PUT. More: a multipart upload, cut by the file's size alone (`partSizeFor`). Both carry
 *    the SHA-256 of their bytes, which the store verifies. The object appears with the answer to the PUT, or to the
 *    completion, never before; conditions (If-None-Match, If-Match) are part of that request.
 * 3. HEAD afterwards must show the size and the sha256, else the upload counts as failed.
 *
 * A crash leaves an unfinished multipart upload. The next attempt finds it by key, compares every part in it with the
 * body (size and SHA-256, or MD5 where the store does not tell the former), and sends the parts that are missing;
 * one part that differs makes it start anew. Other unfinished uploads of the key are aborted after success, the own
 * one when the job is cancelled for good; the rest falls to `sweep`.
 *
 * An answer may get lost after the store acted on it. A condition that does not hold, or an upload that is gone, after
 * such a failure counts as success when the object has our sha256.
 */
export async function putObject(
  target: Omit<S3Target, 'retry'>,
  body: PutBody,
  settings: S3Settings,
): Promise<{ size: number; etag: string; sha256: string }> {
  const { requests, url, options } = target;
  const { signal } = options;
  throwIfAborted(signal);
  let undecided = false;
  const policy = options.retry ?? requests.ownRetry(signal);
  const retry: Retry = (step) =>
    policy(async () => {
      try {
        return await step();
      } catch (thrown) {
        if (thrown instanceof StorageError && SILENT.has(thrown.reason)) undecided = true;
        throw thrown;
      }
    });
  const to: S3Target = { ...target, retry };
  return withReleasers(async (release) => {
    const source = await SeekableBody.open(body);
    release(() => source.close());
    const sha256 = await source.sha256();
    const partSize = partSizeFor(source.size, settings.partSize);
    const send = () =>
      source.size <= 2 * partSize ? sendWhole(to, source, sha256) : sendInParts(to, source, sha256, partSize);
    try {
      await send();
    } catch (thrown) {
      const gone = isNoSuchUpload(thrown);
      if (!gone && !(undecided && isPreconditionFailed(thrown))) throw thrown;
      if ((await headObject(to))?.sha256 !== sha256) {
        if (!gone) throw thrown;
        await send();
      }
    }
    let found = await headObject(to);
    if (found?.sha256 !== sha256 && options.ifAbsent === undefined && options.ifMatch === undefined) {
      // an upload of other bytes was continued that differed only in parts the store did not hold yet
      await send();
      found = await headObject(to);
    }
    if (found?.size === source.size && found.sha256 === sha256) return { ...found, sha256 };
    throw new StorageError(
      `expected ${source.size} bytes with sha256 ${sha256} at ${url} after writing, found ${
        found === undefined
          ? 'no object'
          : `${found.size} bytes with sha256 ${found.sha256 ?? 'not recorded'}`
      }`,
      { retryable: true, reason: 'checksum' },
    );
  });
}

async function sendWhole(to: S3Target, source: SeekableBody, sha256: string): Promise<void> {
  const { requests, fullKey, url, options, retry } = to;
  const bytes = await source.read(0, source.size);
  await retry(() =>
    requests.send(`write ${url}`, options.signal, (client, sdk, http) => {
      const command = new sdk.PutObjectCommand({
        Bucket: requests.bucket,
        Key: fullKey,
        Body: bytes,
        ContentLength: bytes.length,
        ChecksumSHA256: Buffer.from(sha256, 'hex').toString('base64'),
        Metadata: { sha256 },
        ...conditionOf(options),
      });
      command.middlewareStack.add(payloadHash(sha256), atBuild);
      return client.send(command, http);
    }),
  );
  options.onProgress?.(bytes.length);
}
