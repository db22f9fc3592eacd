import { createHash } from 'node:crypto';
import PQueue from 'p-queue';
import { CanceledError, StorageError, toError } from '../errors.ts';
import type { SeekableBody } from './s3-body.ts';
import { isNoSuchUpload } from './s3-errors.ts';
import { abortUpload, storedParts, unfinishedUploads, type UnfinishedUpload } from './s3-multipart.ts';
import { pause } from './retry.ts';
import { atBuild, payloadHash } from './s3-requests.ts';
import { conditionOf, type S3Target } from './s3-target.ts';

/** Parts in flight at once, over all files of this process; each is held in memory. */
const parts = new PQueue({ concurrency: 4 });

/** A part the store acknowledged; sha256 in base64. */
type SentPart = { readonly PartNumber: number; readonly ETag: string; readonly ChecksumSHA256: string };

/** Sends a body as a multipart upload, continuing an unfinished one of the same bytes; see `putObject`. */
export async function sendInParts(
  to: S3Target,
  body: SeekableBody,
  sha256: string,
  partSize: number,
): Promise<void> {
  const { requests, url, options, retry } = to;
  const { signal } = options;
  const others = await unfinishedOf(to);
  const resumed = await resumable(to, others, body, partSize);
  const upload = resumed?.upload ?? (await create(to, sha256));
  try {
    const sent = await sendMissing(to, upload, resumed?.sent ?? [], body, partSize);
    await retry(() => complete(to, upload, sent));
  } catch (thrown) {
    if (thrown instanceof CanceledError && thrown.reason === 'cancelled') {
      // nobody comes back for it; where this fails too, `sweep` finds it
      await abortForGood(to, upload).catch(() => undefined);
    }
    throw thrown;
  }
  for (const other of others) {
    if (other.id !== upload.id) await retry(() => abortUpload(requests, other, url, signal));
  }
}

/** Aborts an upload until it is gone: a part that was under way may come in after the first time. */
async function abortForGood({ requests, url }: S3Target, upload: UnfinishedUpload): Promise<void> {
  const signal = AbortSignal.timeout(10_000);
  try {
    for (let waitMs = 50; ; waitMs *= 2) {
      await requests.ownRetry(signal)(() => abortUpload(requests, upload, url, signal));
      await storedParts(requests, upload, url, signal);
      await pause(waitMs, signal);
    }
  } catch (thrown) {
    if (!isNoSuchUpload(thrown)) throw thrown;
  }
}

/**
 * Unfinished uploads of this very key, the latest first. None where the store refuses to list them (a key without that
 * permission, a store that cannot): every upload then begins anew.
 */
async function unfinishedOf(to: S3Target): Promise<UnfinishedUpload[]> {
  const found: UnfinishedUpload[] = [];
  try {
    for await (const upload of unfinishedUploads(to.requests, to.fullKey, to.url, to.options.signal)) {
      if (upload.fullKey === to.fullKey) found.push(upload);
    }
  } catch (thrown) {
    if (!(thrown instanceof StorageError) || thrown.retryable) throw thrown;
    return [];
  }
  return found.toSorted((a, b) => b.startedAt - a.startedAt);
}

/** The latest unfinished upload whose parts are all parts of `body`. */
async function resumable(
  to: S3Target,
  uploads: readonly UnfinishedUpload[],
  body: SeekableBody,
  partSize: number,
): Promise<{ upload: UnfinishedUpload; sent: SentPart[] } | undefined> {
  for (const upload of uploads) {
    try {
      const sent = await matchingParts(to, upload, body, partSize);
      if (sent !== undefined) return { upload, sent };
    } catch (thrown) {
      if (!isNoSuchUpload(thrown)) throw thrown;
    }
  }
  return undefined;
}

async function matchingParts(
  to: S3Target,
  upload: UnfinishedUpload,
  body: SeekableBody,
  partSize: number,
): Promise<SentPart[] | undefined> {
  const sent: SentPart[] = [];
  for (const part of await storedParts(to.requests, upload, to.url, to.options.signal)) {
    const start = (part.number - 1) * partSize;
    const end = Math.min(body.size, start + partSize);
    if (part.size !== end - start) return undefined;
    const bytes = await body.read(start, end);
    const sha256 = createHash('sha256').update(bytes).digest('base64');
    const same =
      part.sha256 === undefined
        ? createHash('md5').update(bytes).digest('hex') === part.etag.replaceAll('"', '')
        : part.sha256 === sha256;
    if (!same) return undefined;
    sent.push({ PartNumber: part.number, ETag: part.etag, ChecksumSHA256: sha256 });
  }
  return sent.length === 0 ? undefined : sent;
}

async function create(to: S3Target, sha256: string): Promise<UnfinishedUpload> {
  const { requests, fullKey, url, options, retry } = to;
  const answer = await retry(() =>
    requests.send(`begin an upload of ${url}`, options.signal, (client, sdk, http) =>
      client.send(
        new sdk.CreateMultipartUploadCommand({
          Bucket: requests.bucket,
          Key: fullKey,
          ChecksumAlgorithm: 'SHA256',
          Metadata: { sha256 },
        }),
        http,
      ),
    ),
  );
  return { fullKey, id: answer.UploadId ?? '', startedAt: Date.now() };
}

/** Sends what is missing; resolves with all parts in order. The first failure stops the others. */
async function sendMissing(
  to: S3Target,
  upload: UnfinishedUpload,
  before: readonly SentPart[],
  body: SeekableBody,
  partSize: number,
): Promise<SentPart[]> {
  const { options } = to;
  const sent = new Map(before.map((part) => [part.PartNumber, part]));
  const lengthOf = (number: number) => Math.min(partSize, body.size - (number - 1) * partSize);
  let acknowledged = before.reduce((sum, part) => sum + lengthOf(part.PartNumber), 0);
  if (acknowledged > 0) options.onProgress?.(acknowledged);
  const failure = new AbortController();
  const stopped = new CanceledError('shutdown'); // of the other parts; never leaves this function
  const signal =
    options.signal === undefined ? failure.signal : AbortSignal.any([options.signal, failure.signal]);
  let first: Error | undefined;
  const missing: Promise<void>[] = [];
  for (let number = 1; (number - 1) * partSize < body.size; number++) {
    if (sent.has(number)) continue;
    const one = parts.add(async () => {
      if (first !== undefined) return;
      try {
        sent.set(
          number,
          await sendPart({ ...to, options: { ...options, signal } }, upload, number, body, partSize),
        );
        acknowledged += lengthOf(number);
        options.onProgress?.(acknowledged);
      } catch (thrown) {
        first ??= toError(thrown);
        failure.abort(stopped);
      }
    });
    missing.push(one);
  }
  await Promise.all(missing);
  if (first !== undefined) throw first;
  return [...sent.values()].toSorted((a, b) => a.PartNumber - b.PartNumber);
}

async function sendPart(
  to: S3Target,
  upload: UnfinishedUpload,
  number: number,
  body: SeekableBody,
  partSize: number,
): Promise<SentPart> {
  const { requests, fullKey, url, options, retry } = to;
  const start = (number - 1) * partSize;
  const bytes = await body.read(start, Math.min(body.size, start + partSize));
  const digest = createHash('sha256').update(bytes).digest();
  const answer = await retry(() =>
    requests.send(`write part ${number} of ${url}`, options.signal, (client, sdk, http) => {
      const command = new sdk.UploadPartCommand({
        Bucket: requests.bucket,
        Key: fullKey,
        UploadId: upload.id,
        PartNumber: number,
        Body: bytes,
        ContentLength: bytes.length,
        ChecksumSHA256: digest.toString('base64'),
      });
      command.middlewareStack.add(payloadHash(digest.toString('hex')), atBuild);
      return client.send(command, http);
    }),
  );
  return { PartNumber: number, ETag: answer.ETag ?? '', ChecksumSHA256: digest.toString('base64') };
}

async function complete(to: S3Target, upload: UnfinishedUpload, sent: SentPart[]): Promise<void> {
  const { requests, fullKey, url, options } = to;
  await requests.send(`complete the upload of ${url}`, options.signal, (client, sdk, http) =>
    client.send(
      new sdk.CompleteMultipartUploadCommand({
        Bucket: requests.bucket,
        Key: fullKey,
        UploadId: upload.id,
        MultipartUpload: { Parts: sent },
        ...conditionOf(options),
      }),
      http,
    ),
  );
}
