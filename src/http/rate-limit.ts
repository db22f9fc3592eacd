import type { Middleware } from 'koa';
import { OPEN_PATHS } from './auth.ts';
import { Problem } from './problem.ts';

/** How often one peer may ask: `burst` at once, then `perSecond`. */
export type Rate = { readonly perSecond: number; readonly burst: number };

/** Far above what a person, a script that waits and an autoscaler need; low enough to keep Redis for the workers. */
export const DEFAULT_RATE: Rate = { perSecond: 200, burst: 1000 };

/** Peers remembered; with more, those that ask least are forgotten, which only ever allows more. */
const PEERS = 10_000;

/** 429 with `Retry-After` for a peer that asks the protected routes more often than `rate`. Token buckets by address. */
export function rateLimit(rate: Rate, now: () => number = () => performance.now()): Middleware {
  const buckets = new Map<string, { tokens: number; at: number }>();
  return async (ctx, next) => {
    if (!OPEN_PATHS.has(ctx.path)) {
      const peer = ctx.req.socket.remoteAddress ?? '';
      const time = now();
      const bucket = buckets.get(peer) ?? { tokens: rate.burst, at: time };
      const refilled = Math.min(rate.burst, bucket.tokens + ((time - bucket.at) / 1000) * rate.perSecond);
      // the newest peer stands last, so that the first is the one that has been quiet longest
      buckets.delete(peer);
      buckets.set(peer, { tokens: refilled < 1 ? refilled : refilled - 1, at: time });
      if (buckets.size > PEERS) buckets.delete(buckets.keys().next().value ?? '');
      if (refilled < 1) {
        throw new Problem(429, `expected at most ${rate.perSecond} requests a second from one address`, {
          headers: { 'Retry-After': '1' },
        });
      }
    }
    await next();
  };
}
