import Router from '@koa/router';
import { z } from 'zod';
import { datasetIdSchema, enqueuedSchema } from '../queue/jobs.ts';
import type { Producer } from '../queue/producer.ts';
import { jobShape, jobStates } from '../queue/shapes.ts';
import { answer, pageOf, pageQuery } from './answers.ts';
import { parseQuery } from './body.ts';
import { once } from './idempotency.ts';
import { notFound } from './problem.ts';

export const jobQuery = z.strictObject({
  state: z.enum(jobStates).optional(),
  dataset: datasetIdSchema.optional(),
  ...pageQuery,
});
export const jobPage = pageOf(jobShape);
/** The 202 of cancelling or retrying one job. */
export const jobChangedSchema = enqueuedSchema.extend({ jobId: z.string() });

/** Routes of episode jobs: list, status, cancel, retry. */
export function createJobRouter(producer: Producer): Router {
  const router = new Router();

  router.get('/v1/jobs', async (ctx) => {
    answer(ctx, 200, jobPage, await producer.jobs(parseQuery(ctx, jobQuery)));
  });

  router.get('/v1/jobs/:id', async (ctx) => {
    const id = ctx.params['id'] ?? '';
    const job = await producer.job(id);
    if (!job) throw notFound('job', id);
    answer(ctx, 200, jobShape, job);
  });

  router.post('/v1/jobs/:id/cancel', async (ctx) => {
    const id = ctx.params['id'] ?? '';
    const done = await once(ctx, producer, {}, () => producer.cancelJob(id));
    answer(ctx, 202, jobChangedSchema, done);
  });

  router.post('/v1/jobs/:id/retry', async (ctx) => {
    const id = ctx.params['id'] ?? '';
    const done = await once(ctx, producer, {}, () => producer.retryJob(id));
    answer(ctx, 202, jobChangedSchema, done);
  });

  return router;
}
