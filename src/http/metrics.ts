import Router from '@koa/router';

/** What `/metrics` serves; `accept` is the scraper's header. Never rejects. */
export type Exposition = {
  scrape(accept: string): Promise<{ readonly contentType: string; readonly body: string }>;
};

/** `GET /metrics`. */
export function metricsRouter(exposition: Exposition): Router {
  const router = new Router();
  router.get('/metrics', async (ctx) => {
    const { contentType, body } = await exposition.scrape(ctx.get('Accept'));
    ctx.set('Content-Type', contentType);
    ctx.set('Vary', 'Accept');
    ctx.body = body;
  });
  return router;
}
