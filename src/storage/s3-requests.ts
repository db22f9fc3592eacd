import type * as S3Sdk from '@aws-sdk/client-s3';
import type { S3Client, S3ClientConfig } from '@aws-sdk/client-s3';
import { throwIfAborted } from '../errors.ts';
import { createRetry } from './retry.ts';
import { s3Error } from './s3-errors.ts';
import type { Retry, S3Settings } from './types.ts';

type Sdk = typeof S3Sdk;
type Connection = { readonly sdk: Sdk; readonly client: S3Client };

/** One connection pool for all stores of this process that are reached the same way. */
const connections = new Map<string, Promise<Connection>>();

/**
 * Requests to one bucket. The SDK is loaded with the first of them (it takes a quarter of a second). It neither
 * repeats requests nor adds checksums by itself: both are decided and counted here.
 */
export class S3Requests {
  readonly bucket: string;
  readonly #settings: S3Settings;

  constructor(bucket: string, settings: S3Settings) {
    this.bucket = bucket;
    this.#settings = settings;
  }

  /** Sends one request, once. Throws what `s3Error` makes of a failure; `what` completes "cannot …". */
  async send<T>(
    what: string,
    signal: AbortSignal | undefined,
    run: (client: S3Client, sdk: Sdk, http: { abortSignal?: AbortSignal }) => Promise<T>,
  ): Promise<T> {
    throwIfAborted(signal);
    try {
      const { client, sdk } = await connect(this.#settings);
      return await run(client, sdk, signal === undefined ? {} : { abortSignal: signal });
    } catch (thrown) {
      throw s3Error(thrown, what, signal);
    }
  }

  /** The retry of reads and look-ups, which no upload counts. */
  ownRetry(signal: AbortSignal | undefined): Retry {
    const { maxAttempts = 5, retryBaseMs } = this.#settings;
    return createRetry({ maxAttempts, signal, baseMs: retryBaseMs });
  }
}

/**
 * Gives a request the sha256 (hex) of its body for the signature, which the SDK would compute once more: a middleware
 * for the step `atBuild`.
 */
export function payloadHash(sha256: string) {
  return <A extends { request: unknown }, R>(next: (args: A) => Promise<R>) =>
    (args: A): Promise<R> => {
      const request = args.request as { headers: Record<string, string> };
      request.headers['x-amz-content-sha256'] = sha256;
      return next(args);
    };
}

/** Where `payloadHash` belongs: after serialisation, before the signature. */
export const atBuild = { step: 'build', name: 'payloadHash' } as const;

function connect(settings: S3Settings): Promise<Connection> {
  const key = JSON.stringify(settings);
  let connection = connections.get(key);
  if (connection === undefined) {
    connection = create(settings);
    connections.set(key, connection);
    connection.catch(() => connections.delete(key));
  }
  return connection;
}

async function create(settings: S3Settings): Promise<Connection> {
  const sdk = await import('@aws-sdk/client-s3');
  const { endpoint, region, forcePathStyle, credentials, idleTimeoutMs = 30_000 } = settings;
  const config: S3ClientConfig = {
    maxAttempts: 1,
    followRegionRedirects: true,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: {
      connectionTimeout: Math.min(10_000, idleTimeoutMs),
      socketTimeout: idleTimeoutMs,
      httpAgent: { keepAlive: true, maxSockets: 64 },
      httpsAgent: { keepAlive: true, maxSockets: 64 },
    },
  };
  if (endpoint !== undefined) config.endpoint = endpoint;
  // any other store takes any region; AWS's own is found by the SDK
  if (region !== undefined || endpoint !== undefined) config.region = region ?? 'us-east-1';
  if (forcePathStyle !== undefined) config.forcePathStyle = forcePathStyle;
  if (credentials !== undefined) config.credentials = credentials;
  return { sdk, client: new sdk.S3Client(config) };
}
