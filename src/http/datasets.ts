import Router from '@koa/router';
import { z } from 'zod';
import { appendRequestSchema, datasetIdSchema, enqueuedSchema, enqueueRequestSchema } from '../queue/jobs.ts';
import type { Producer } from '../queue/producer.ts';
import { datasetShape } from '../queue/shapes.ts';
import { answer, pageOf, pageQuery } from './answers.ts';
import { parseBody, parseQuery } from './body.ts';
import { once } from './idempotency.ts';
import { notFound } from './problem.ts';

export const datasetQuery = z.strictObject(pageQuery);
export const datasetPage = pageOf(datasetShape);

/** Routes of datasets: enqueue, append, list, status, cancel, retry. */
export function createDatasetRouter(producer: Producer): Router {
  const router = new Router();

  router.post('/v1/datasets', async (ctx) => {
    const request = await parseBody(ctx, enqueueRequestSchema);
    const done = await once(ctx, producer, request, () => producer.enqueueDataset(request));
    ctx.set('Location', `/v1/datasets/${encodeURIComponent(done.datasetId)}`);
    answer(ctx, 202, enqueuedSchema, done);
  });

  router.get('/v1/datasets', async (ctx) => {
    answer(ctx, 200, datasetPage, await producer.datasets(parseQuery(ctx, datasetQuery)));
  });

  router.get('/v1/datasets/:id', async (ctx) => {
    const id = knownId(ctx.params['id']);
    const status = await producer.dataset(id);
    if (!status) throw notFound('dataset', id);
    answer(ctx, 200, datasetShape, status);
  });

  router.post('/v1/datasets/:id/episodes', async (ctx) => {
    const id = knownId(ctx.params['id']);
    const request = await parseBody(ctx, appendRequestSchema);
    const done = await once(ctx, producer, request, () => producer.appendRecordings(id, request));
    answer(ctx, 202, enqueuedSchema, done);
  });

  router.post('/v1/datasets/:id/cancel', async (ctx) => {
    const id = knownId(ctx.params['id']);
    const done = await once(ctx, producer, {}, () => producer.cancelDataset(id));
    answer(ctx, 202, enqueuedSchema, done);
  });

  router.post('/v1/datasets/:id/retry', async (ctx) => {
    const id = knownId(ctx.params['id']);
    const done = await once(ctx, producer, {}, () => producer.retryDataset(id));
    answer(ctx, 202, enqueuedSchema, done);
  });

  return router;
}

/** The id of a path; one that cannot be an id is as unknown as any other. */
function knownId(id: string | undefined): string {
  const parsed = datasetIdSchema.safeParse(id);
  if (!parsed.success) throw notFound('dataset', id ?? '');
  return parsed.data;
}
