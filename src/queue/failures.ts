import { z } from 'zod';
import { EncodeError, InputError, StorageError, toError } from '../errors.ts';

/** Longest reason that is kept of a failure. */
const REASON_LENGTH = 1000;

/** The sentence a user gets of a failure: one line, bounded, no stack, no credentials. */
export function reasonOf(thrown: unknown): string {
  const { message, name } = toError(thrown);
  const line = withoutSecrets(message).replaceAll(/\s+/g, ' ').trim();
  if (line === '') return name;
  return line.length <= REASON_LENGTH ? line : `${line.slice(0, REASON_LENGTH - 1)}…`;
}

/** The sentence for a job that the queue itself gave up; others as they are. */
export function queueReason(reason: string): string {
  if (!/stalled more than allowable/.test(reason)) return reason;
  return 'the pod that worked on it vanished, or lost Redis for longer than its lock, again and again; it is not tried again';
}

/** True when trying again cannot help. */
export function isFinal(thrown: unknown): boolean {
  if (thrown instanceof InputError || thrown instanceof z.ZodError) return true;
  if (thrown instanceof StorageError) return !thrown.retryable;
  return thrown instanceof EncodeError && thrown.cause instanceof InputError;
}

/** What the log calls an error. */
export function kindOf(thrown: unknown): string {
  return toError(thrown).name;
}

function withoutSecrets(text: string): string {
  return text
    .replaceAll(/([a-z][a-z0-9+.-]{0,30}:\/\/)[^\s/@]+@/gi, '$1')
    .replaceAll(/\b(AKIA|ASIA)[A-Z0-9]{16}\b/g, '[key]')
    .replaceAll(
      /\b(X-Amz-[A-Za-z-]{1,60}|token|secret|password|authorization)(=|: ?)[^\s&"']+/gi,
      '$1$2[hidden]',
    )
    .replaceAll(/\bBearer\s+\S+/gi, 'Bearer [hidden]');
}
