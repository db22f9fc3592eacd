import Router from '@koa/router';
import { z } from 'zod';
import type { Producer } from '../queue/producer.ts';
import { answer } from './answers.ts';

export const scalingShape = z.object({ value: z.int().min(0) });

/** `GET /v1/scaling`: the work there is, as one number for an autoscaler. */
export function createScalingRouter(producer: Producer): Router {
  const router = new Router();
  router.get('/v1/scaling', async (ctx) => {
    answer(ctx, 200, scalingShape, { value: await producer.scaling() });
  });
  return router;
}
