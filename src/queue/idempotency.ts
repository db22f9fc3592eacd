import { createHash } from 'node:crypto';
import type { Redis } from 'ioredis';
import { z } from 'zod';
import type { Keys } from './keys.ts';

/** Answers of requests with an idempotency key, so that a repeated request is answered and not done again. */

/** A day: longer than any client keeps trying. */
const KEPT_SECONDS = 86_400;
/** A request whose process died before it answered may be done again after this. */
const PENDING_SECONDS = 120;

const rememberedSchema = z.object({
  fingerprint: z.string(),
  answer: z.unknown().optional(),
  pending: z.boolean(),
});

/** `done` now or before (`repeated`); `other`: the key belongs to another request; `pending`: the first is still running. */
export type Once<T> =
  | { readonly kind: 'done'; readonly answer: T; readonly repeated: boolean }
  | { readonly kind: 'other' }
  | { readonly kind: 'pending' };

/**
 * Does `work` once for `key` within `scope`. The answer is remembered for a day when `keep` says so; else, and when
 * `work` throws, the key is free again. `answer` must survive JSON.
 */
export async function doOnce<T>(
  redis: Redis,
  keys: Keys,
  request: { readonly scope: string; readonly key: string; readonly input: unknown },
  work: () => Promise<T>,
  keep: (answer: T) => boolean,
): Promise<Once<T>> {
  const name = keys.idempotency(digest(`${request.scope}\n${request.key}`));
  const fingerprint = digest(JSON.stringify(request.input) ?? '');
  const mark = JSON.stringify({ fingerprint, pending: true });
  if ((await redis.set(name, mark, 'EX', PENDING_SECONDS, 'NX')) === null) {
    const before = await redis.get(name);
    if (before === null) return { kind: 'pending' };
    const remembered = rememberedSchema.parse(JSON.parse(before));
    if (remembered.fingerprint !== fingerprint) return { kind: 'other' };
    if (remembered.pending) return { kind: 'pending' };
    return { kind: 'done', answer: remembered.answer as T, repeated: true };
  }
  let kept = false;
  try {
    const answer = await work();
    if (keep(answer)) {
      await redis.set(name, JSON.stringify({ fingerprint, answer, pending: false }), 'EX', KEPT_SECONDS);
      kept = true;
    }
    return { kind: 'done', answer, repeated: false };
  } finally {
    if (!kept) await redis.del(name);
  }
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
