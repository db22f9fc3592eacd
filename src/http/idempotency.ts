import type { Context } from 'koa';
import type { Producer } from '../queue/producer.ts';
import type { Refusal } from '../queue/refusals.ts';
import { refused } from './answers.ts';
import { Problem } from './problem.ts';

/**
 * Does the work of a POST; with an `Idempotency-Key` once, however often the request is sent: the same key answers the
 * same, with `Idempotency-Replayed: true`; the same key with another body, or while the first is running, is a 409, and
 * so is one whose answer tells of something that `exists` no longer. Refusals are thrown as problems and not remembered.
 */
export async function once<T extends object>(
  ctx: Context,
  producer: Producer,
  input: unknown,
  work: () => Promise<T | Refusal>,
  exists: (answer: T) => Promise<boolean> = async () => true,
): Promise<T> {
  const key = ctx.headers['idempotency-key'];
  if (key === undefined) return accepted(await work());
  if (typeof key !== 'string' || !/^[\x21-\x7e]{1,255}$/.test(key)) {
    throw new Problem(400, 'expected an Idempotency-Key of 1 to 255 visible ASCII characters');
  }
  const done = await producer.once({ scope: `${ctx.method} ${ctx.path}`, key, input }, work);
  if (done.kind === 'other') {
    throw new Problem(
      409,
      'this Idempotency-Key was used for another request; a new request needs a new key',
    );
  }
  if (done.kind === 'pending') {
    const headers = { 'Retry-After': '1' };
    throw new Problem(409, 'the first request with this Idempotency-Key is still running', { headers });
  }
  const answer = accepted(done.answer);
  if (done.repeated) {
    if (!(await exists(answer))) {
      throw new Problem(409, 'what this Idempotency-Key began has ended; a new request needs a new key');
    }
    ctx.set('Idempotency-Replayed', 'true');
  }
  return answer;
}

function accepted<T extends object>(answer: T | Refusal): T {
  if ('refused' in answer) throw refused(answer);
  return answer;
}
