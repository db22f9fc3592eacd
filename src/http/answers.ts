import type { Context } from 'koa';
import { z } from 'zod';
import type { Refusal } from '../queue/refusals.ts';
import { Problem } from './problem.ts';

/** A refusal of the queue as the problem it is over HTTP. */
export function refused(refusal: Refusal): Problem {
  if (refusal.refused === 'unknown') return new Problem(404, refusal.detail);
  if (refusal.refused === 'conflict') return new Problem(409, refusal.detail);
  const [first] = refusal.faults;
  const more = refusal.faults.length > 1 ? ` (and ${refusal.faults.length - 1} more)` : '';
  return new Problem(422, `the request body is not valid: ${first?.pointer}: ${first?.detail}${more}`, {
    errors: refusal.faults,
  });
}

/** Answers with what `schema` makes of `value`: a field that is not in the schema never leaves the service. */
export function answer<S extends z.ZodType>(ctx: Context, status: number, schema: S, value: unknown): void {
  ctx.status = status;
  ctx.body = schema.parse(value);
}

/** Query of every list. */
export const pageQuery = {
  cursor: z.string().min(1).max(1000).optional(),
  limit: z.coerce.number().int().min(1).max(500).default(50),
};

/** A part of a list. */
export function pageOf<S extends z.ZodType>(item: S) {
  return z.object({ items: z.array(item), next: z.string().optional() });
}
