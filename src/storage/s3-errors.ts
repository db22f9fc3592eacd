import { CanceledError, StorageError, throwIfAborted, toError, type StorageReason } from '../errors.ts';

/** What an error of the SDK, of the connection or of the store says about itself. */
type Failure = {
  readonly name: string;
  readonly code: string;
  readonly status: number;
  readonly message: string;
};

const TIMEOUT = new Set([
  'TimeoutError',
  'RequestTimeout',
  'RequestTimeoutException',
  'ETIMEDOUT',
  'ESOCKETTIMEDOUT',
]);
const THROTTLED = new Set([
  'SlowDown',
  'Throttling',
  'ThrottlingException',
  'ThrottledException',
  'RequestThrottled',
  'RequestLimitExceeded',
  'TooManyRequests',
  'TooManyRequestsException',
  'BandwidthLimitExceeded',
]);
const CHECKSUM = new Set([
  'BadDigest',
  'XAmzContentSHA256Mismatch',
  'XAmzContentChecksumMismatch',
  'ContentChecksumMismatch',
]);
const NETWORK = new Set([
  'ECONNRESET',
  'ECONNREFUSED',
  'ECONNABORTED',
  'EPIPE',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENETDOWN',
  'ERR_STREAM_PREMATURE_CLOSE',
  'ERR_SSL_WRONG_VERSION_NUMBER',
  'EPROTO',
  'IncompleteBody',
]);
/** A conflicting write is under way; the store asks to try again. */
const CONFLICT = new Set(['ConditionalRequestConflict', 'OperationAborted']);

const WORDS: Readonly<Record<string, string>> = {
  NoSuchBucket: 'the bucket does not exist',
  NoSuchKey: 'it does not exist',
  NotFound: 'it does not exist',
  NoSuchUpload: 'the multipart upload does not exist any more',
  AccessDenied: 'access denied',
  Forbidden: 'access denied',
  ExpiredToken: 'the credentials have expired',
  InvalidAccessKeyId: 'the access key is unknown to the store',
  SignatureDoesNotMatch: 'the secret key does not fit the access key',
  RequestTimeTooSkewed: 'the clock of this machine is wrong',
  CredentialsProviderError: 'no credentials were found',
  PreconditionFailed: 'somebody else wrote it (precondition failed)',
  SlowDown: 'the store asks to slow down',
  NotImplemented: 'the store cannot do this',
};

/**
 * Anything thrown by a request, as a `StorageError` "cannot `what`: why", or `CanceledError` when the signal is aborted.
 * The reason is a total function of the error. The cause keeps name, status and message of the original, not its
 * headers or signature.
 */
export function s3Error(thrown: unknown, what: string, signal?: AbortSignal): Error {
  if (thrown instanceof StorageError || thrown instanceof CanceledError) return thrown;
  try {
    throwIfAborted(signal);
  } catch (canceled) {
    return toError(canceled);
  }
  const failure = describe(thrown);
  const { reason, retryable } = judge(failure);
  const why = WORDS[failure.name] ?? WORDS[failure.code] ?? failure.message.split('\n')[0];
  const status = failure.status > 0 ? `HTTP ${failure.status}` : failure.code;
  const label = [failure.name, status].filter((word) => word !== '' && word !== 'Error').join(', ');
  const cause = new Error(`${failure.name}: ${failure.message}`);
  cause.name = failure.name;
  return new StorageError(`cannot ${what}: ${why}${label === '' ? '' : ` (${label})`}`, {
    retryable,
    reason,
    cause,
  });
}

/** Reason and retryability of a failed request. */
function judge({ name, code, status, message }: Failure): { reason: StorageReason; retryable: boolean } {
  const is = (set: ReadonlySet<string>) => set.has(name) || set.has(code);
  if (is(CHECKSUM) || /checksum mismatch/i.test(message)) return { reason: 'checksum', retryable: true };
  if (is(THROTTLED) || status === 429) return { reason: 'throttled', retryable: true };
  // by code: the SDK names a reset connection TimeoutError too
  if (NETWORK.has(code)) return { reason: 'network', retryable: true };
  if (is(TIMEOUT) || status === 408) return { reason: 'timeout', retryable: true };
  if (status === 501) return { reason: 'other', retryable: false };
  if (status >= 500) return { reason: 'server_error', retryable: true };
  const cutOff = status < 400 && /socket hang up|^aborted$|deserialization error/i.test(message);
  if (NETWORK.has(name) || cutOff) return { reason: 'network', retryable: true };
  return { reason: 'other', retryable: is(CONFLICT) };
}

function describe(thrown: unknown): Failure {
  const error = toError(thrown) as Error & {
    code?: unknown;
    Code?: unknown;
    $metadata?: { httpStatusCode?: number };
  };
  const code = typeof error.code === 'string' ? error.code : typeof error.Code === 'string' ? error.Code : '';
  return { name: error.name, code, status: error.$metadata?.httpStatusCode ?? 0, message: error.message };
}

/** Whether the store said that there is no such object. */
export function isNotFound(error: unknown): boolean {
  return hasCause(error, ['NotFound', 'NoSuchKey']);
}

/** Whether a multipart upload was completed or aborted by somebody, or by an earlier try of ours. */
export function isNoSuchUpload(error: unknown): boolean {
  return hasCause(error, ['NoSuchUpload']);
}

/** Whether a condition (If-Match, If-None-Match) did not hold. */
export function isPreconditionFailed(error: unknown): boolean {
  return hasCause(error, ['PreconditionFailed']);
}

function hasCause(error: unknown, names: readonly string[]): boolean {
  return error instanceof StorageError && error.cause instanceof Error && names.includes(error.cause.name);
}
