import { randomUUID } from 'node:crypto';
import type { Middleware } from 'koa';

/** The log a request writes to; pino's shape. */
export type RequestLog = {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
};

/** One answered request. `route` is the template that matched (`/v1/jobs/:id`), or `unmatched`. */
export type RequestObservation = {
  readonly method: string;
  readonly route: string;
  readonly status: number;
  readonly seconds: number;
};

/** The request's id: of the caller when it is short and harmless, else a new one. Answered as `X-Request-Id`. */
export function requestId(): Middleware {
  return async (ctx, next) => {
    const given = ctx.get('X-Request-Id');
    const id = /^[A-Za-z0-9._-]{1,128}$/.test(given) ? given : randomUUID();
    ctx.state['requestId'] = id;
    ctx.set('X-Request-Id', id);
    await next();
  };
}

/**
 * Observes and logs each request once it is answered (or its client went away). Probes and scrapes log at `debug`,
 * as they would drown everything else.
 */
export function requestLog(
  log: RequestLog,
  observe: (observation: RequestObservation) => void,
  quiet: ReadonlySet<string>,
): Middleware {
  return async (ctx, next) => {
    const start = process.hrtime.bigint();
    ctx.res.once('close', () => {
      const seconds = Number(process.hrtime.bigint() - start) / 1e9;
      const matched: unknown = ctx['_matchedRoute'];
      const route = typeof matched === 'string' ? matched : 'unmatched';
      const aborted = !ctx.res.writableFinished;
      const status = ctx.res.statusCode;
      observe({ method: ctx.method, route, status, seconds });
      const fields = {
        requestId: ctx.state['requestId'] as unknown,
        method: ctx.method,
        path: ctx.path,
        route,
        status,
        durationMs: Math.round(seconds * 1000),
        ...(aborted ? { aborted } : {}),
      };
      if (quiet.has(ctx.path)) log.debug(fields, 'request');
      else log.info(fields, 'request');
    });
    await next();
  };
}
