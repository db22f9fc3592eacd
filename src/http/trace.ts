import type { Middleware } from 'koa';
import type { Tracing } from '../tracing.ts';

/** The part of tracing that a request needs. */
export type RequestTracing = Pick<Tracing, 'serve'>;

/** A span for every request, continued from the caller's `traceparent`; none for `quiet` paths. */
export function traceRequests(tracing: RequestTracing, quiet: ReadonlySet<string>): Middleware {
  return async (ctx, next) => {
    if (quiet.has(ctx.path)) return await next();
    await tracing.serve(ctx.method, ctx.headers, async (answered) => {
      await next();
      const matched: unknown = ctx['_matchedRoute'];
      answered(typeof matched === 'string' ? matched : 'unmatched', ctx.status);
    });
  };
}
