import type Router from '@koa/router';
import Koa, { type Context, type Middleware } from 'koa';
import { authentication, OPEN_PATHS } from './auth.ts';
import { Problem, toProblem } from './problem.ts';
import { DEFAULT_RATE, rateLimit, type Rate } from './rate-limit.ts';
import { traceRequests, type RequestTracing } from './trace.ts';
import { requestId, requestLog, type RequestLog, type RequestObservation } from './request-log.ts';

/** What the application is made of. Routers answer in the order given. */
export type AppOptions = {
  readonly routers: readonly Router[];
  readonly log: RequestLog;
  /** Bearer token of the protected routes; without one they answer on loopback only. */
  readonly token?: string | undefined;
  /** Makes a span of every request that is not a probe or a scrape. */
  readonly tracing?: RequestTracing | undefined;
  /** How often one peer may use the protected routes. */
  readonly rate?: Rate;
  /** Called once for each answered request. */
  readonly observe?: (observation: RequestObservation) => void;
};

/** The HTTP application: problems for errors, request ids, one log line a request, authentication, the routers. */
export function createApp(options: AppOptions): Koa {
  const app = new Koa();
  app.silent = true;
  app.on('error', (error: unknown) => {
    options.log.warn({ err: error }, 'the answer could not be sent');
  });
  app.use(requestId());
  if (options.tracing) app.use(traceRequests(options.tracing, OPEN_PATHS));
  app.use(requestLog(options.log, options.observe ?? (() => undefined), OPEN_PATHS));
  app.use(securityHeaders);
  app.use(problems(options.log));
  app.use(wellFormed);
  app.use(rateLimit(options.rate ?? DEFAULT_RATE));
  app.use(authentication(options.token));
  for (const router of options.routers) {
    app.use(router.routes() as Middleware);
  }
  app.use(noRoute(options.routers));
  return app;
}

/** Headers of every answer: nothing sniffed, framed or cached unless a route says so; no CORS header is ever sent. */
const securityHeaders: Middleware = async (ctx, next) => {
  ctx.set({
    'X-Content-Type-Options': 'nosniff',
    'X-Frame-Options': 'DENY',
    'Referrer-Policy': 'no-referrer',
    'Content-Security-Policy': "default-src 'none'; frame-ancestors 'none'",
    'Cache-Control': 'no-store',
  });
  await next();
};

/** What HTTP forbids and the server lets through, so that it is refused with a problem like anything else. */
const wellFormed: Middleware = async (ctx, next) => {
  const hosts = ctx.req.headersDistinct['host']?.length ?? 0;
  if (hosts > 1 || (hosts === 0 && ctx.req.httpVersion === '1.1')) {
    throw new Problem(400, `expected one Host header, found ${hosts === 0 ? 'none' : hosts}`);
  }
  const expected = ctx.get('Expect');
  if (expected !== '' && expected.toLowerCase() !== '100-continue') {
    throw new Problem(417, `expected no Expect header but 100-continue, found ${expected.slice(0, 100)}`);
  }
  await next();
};

/** The one place where an error becomes an answer. */
function problems(log: RequestLog): Middleware {
  return async (ctx, next) => {
    try {
      await next();
    } catch (thrown) {
      const problem = toProblem(thrown);
      const id: unknown = ctx.state['requestId'];
      if (problem.status >= 500) {
        const { cause, message } = problem;
        const request = { requestId: id, method: ctx.method, path: ctx.path };
        if (problem.status !== 503 || cause !== undefined)
          log.error({ err: cause ?? problem, ...request }, 'request failed');
        else log.warn({ reason: message, ...request }, 'request refused for now');
      }
      if (ctx.headerSent) {
        ctx.res.destroy();
        return;
      }
      ctx.status = problem.status;
      ctx.set({ ...problem.headers });
      ctx.body = problem.toBody(typeof id === 'string' ? id : undefined);
      ctx.type = 'application/problem+json';
    }
  };
}

/** 405 with `Allow` when the path exists under another method, else 404. */
function noRoute(routers: readonly Router[]): Middleware {
  return async (ctx) => {
    const allowed = allowedMethods(routers, ctx);
    if (allowed.length === 0) throw new Problem(404, `nothing is served at ${ctx.path.slice(0, 200)}`);
    const allow = allowed.join(', ');
    if (ctx.method === 'OPTIONS') {
      ctx.set('Allow', allow);
      ctx.status = 204;
      return;
    }
    throw new Problem(405, `${ctx.method} is not answered here; expected one of ${allow}`, {
      headers: { Allow: allow },
    });
  };
}

function allowedMethods(routers: readonly Router[], ctx: Context): string[] {
  const methods = routers.flatMap((router) =>
    router.stack.filter((layer) => layer.match(ctx.path)).flatMap((layer) => layer.methods),
  );
  return [...new Set(methods)].toSorted();
}
