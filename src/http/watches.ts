import Router from '@koa/router';
import { z } from 'zod';
import type { Producer } from '../queue/producer.ts';
import { watchRequestSchema, watchShape } from '../queue/watches.ts';
import { answer } from './answers.ts';
import { parseBody } from './body.ts';
import { once } from './idempotency.ts';
import { notFound } from './problem.ts';

export const watchList = z.object({ items: z.array(watchShape) });

/** Routes of watched prefixes: begin, list, end. */
export function createWatchRouter(producer: Producer): Router {
  const router = new Router();

  router.post('/v1/watches', async (ctx) => {
    const request = await parseBody(ctx, watchRequestSchema);
    const begin = () => producer.watch(request);
    const watch = await once(ctx, producer, request, begin, async ({ watchId }) =>
      (await producer.watches()).some((each) => each.watchId === watchId),
    );
    answer(ctx, 202, watchShape, watch);
  });

  router.get('/v1/watches', async (ctx) => {
    answer(ctx, 200, watchList, { items: await producer.watches() });
  });

  router.delete('/v1/watches/:id', async (ctx) => {
    const id = ctx.params['id'] ?? '';
    if (!(await producer.unwatch(id))) throw notFound('watch', id);
    ctx.status = 204;
  });

  return router;
}
