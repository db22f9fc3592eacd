import { StorageError, toError, type StorageReason } from '../errors.ts';

/** Refusals of a file system: repeating the call cannot help. */
const REFUSALS: Readonly<Record<string, string>> = {
  ENOENT: 'it does not exist',
  EACCES: 'permission denied',
  EPERM: 'operation not permitted',
  EROFS: 'the file system is read-only',
  ENOSPC: 'no space left on the device',
  EDQUOT: 'the disk quota is exceeded',
  EFBIG: 'the file system does not take files of this size',
  ENOTDIR: 'a part of the path is a file, not a folder',
  EISDIR: 'it is a folder, not a file',
  ELOOP: 'too many symbolic links',
  ENAMETOOLONG: 'the name is too long',
  EEXIST: 'it exists already',
};

/** Failures that may pass, most of them of network file systems. */
const PASSING: Readonly<Record<string, { why: string; reason: StorageReason }>> = {
  ETIMEDOUT: { why: 'timed out', reason: 'timeout' },
  ESTALE: { why: 'stale file handle', reason: 'network' },
  EHOSTDOWN: { why: 'the file server is down', reason: 'network' },
  EIO: { why: 'input/output error', reason: 'server_error' },
  EREMOTEIO: { why: 'remote input/output error', reason: 'server_error' },
  EMFILE: { why: 'too many open files', reason: 'throttled' },
  ENFILE: { why: 'too many open files on this machine', reason: 'throttled' },
  EAGAIN: { why: 'temporarily unavailable', reason: 'throttled' },
  EBUSY: { why: 'busy', reason: 'throttled' },
};

/** The system error code of anything thrown. */
export function errorCode(thrown: unknown): string | undefined {
  const code = (thrown as { code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : undefined;
}

/**
 * What went wrong with `path`, as a `StorageError` saying "cannot `action` `path`: why". Errors of this product pass
 * through unchanged; an unknown code is not retryable.
 */
export function localError(thrown: unknown, action: string, path: string): Error {
  const error = toError(thrown);
  const code = errorCode(thrown);
  if (code === undefined) return error;
  const passing = PASSING[code];
  const why = passing?.why ?? REFUSALS[code] ?? error.message;
  return new StorageError(`cannot ${action} ${path}: ${why} (${code})`, {
    retryable: passing !== undefined,
    reason: passing?.reason ?? 'other',
    cause: error,
  });
}
