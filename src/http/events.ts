import { PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import Router from '@koa/router';
import { z } from 'zod';
import { toError } from '../errors.ts';
import { EVENT_ID, Pace } from '../queue/events.ts';
import { datasetIdSchema } from '../queue/jobs.ts';
import type { Producer } from '../queue/producer.ts';
import { parseQuery } from './body.ts';
import { notFound, Problem } from './problem.ts';

export type EventOptions = {
  /** Ends the streams when the service stops. */
  readonly signal?: AbortSignal;
  /** Between two looks at the dataset, ms. */
  readonly intervalMs?: number;
};

/** Something is sent at least this often, so that nobody in between takes the connection for dead. */
const HEARTBEAT_MS = 15_000;
/** Streams open at once; more get 503. */
const MAX_STREAMS = 200;

/** `follow=false`: what there is now, and the stream ends. */
export const eventQuery = z.strictObject({ follow: z.enum(['true', 'false']).default('true') });

/**
 * `GET /v1/datasets/:id/events`: server-sent events. `job` and `dataset` events have ids and are sent again after a
 * `Last-Event-ID`; `progress` events, at most one a second and only when something changed, have none.
 */
export function createEventRouter(producer: Producer, options: EventOptions = {}): Router {
  const router = new Router();
  let open = 0;

  router.get('/v1/datasets/:id/events', async (ctx) => {
    const id = datasetIdSchema.safeParse(ctx.params['id']);
    if (!id.success || !(await producer.dataset(id.data))) throw notFound('dataset', ctx.params['id'] ?? '');
    const { follow } = parseQuery(ctx, eventQuery);
    const last = ctx.headers['last-event-id'];
    if (last !== undefined && !(typeof last === 'string' && EVENT_ID.test(last))) {
      throw new Problem(400, 'expected a Last-Event-ID as sent with an earlier event');
    }
    if (open >= MAX_STREAMS) {
      throw new Problem(503, `${MAX_STREAMS} event streams are open already`, {
        headers: { 'Retry-After': '5' },
      });
    }
    const after = last ?? (await producer.newestEvent(id.data));
    const gone = new AbortController();
    const body = new PassThrough();
    body.once('close', () => gone.abort());
    const signal = options.signal ? AbortSignal.any([gone.signal, options.signal]) : gone.signal;
    ctx.set({ 'Content-Type': 'text/event-stream', 'X-Accel-Buffering': 'no' });
    ctx.status = 200;
    ctx.body = body;
    if (ctx.method === 'HEAD') return;
    open++;
    const feed = { producer, datasetId: id.data, after, signal, follow: follow === 'true' };
    void send(feed, body, options.intervalMs ?? 1000).finally(() => {
      open--;
      body.end();
    });
  });

  return router;
}

type Feed = {
  readonly producer: Producer;
  readonly datasetId: string;
  /** The last event the reader knows. */
  readonly after: string;
  readonly signal: AbortSignal;
  readonly follow: boolean;
};

/** Sends until `signal` ends it, or once; while Redis is away only heartbeats are sent. */
async function send(feed: Feed, body: PassThrough, intervalMs: number): Promise<void> {
  const { producer, datasetId, signal } = feed;
  const pace = new Pace();
  let { after } = feed;
  let before = '';
  let sentAt = Date.now();
  const write = (text: string) => {
    sentAt = Date.now();
    // A reader that does not read is cut rather than buffered for.
    if (!body.write(text) && body.writableLength > 1 << 20) body.destroy();
  };
  body.write('retry: 2000\n\n');
  while (!signal.aborted) {
    try {
      const events = await producer.eventsAfter(datasetId, after);
      for (const event of events) {
        write(`id: ${event.id}\nevent: ${event.type}\ndata: ${JSON.stringify(event.data)}\n\n`);
        after = event.id;
      }
      if (!feed.follow && events.length > 0) continue;
      const progress = await producer.progress(datasetId, pace);
      const { framesPerSecond: _speed, secondsLeft: _left, ...facts } = progress ?? {};
      const now = JSON.stringify(facts);
      if (progress && now !== before) write(`event: progress\ndata: ${JSON.stringify(progress)}\n\n`);
      before = now;
    } catch (thrown) {
      write(`: ${toError(thrown).message.replaceAll(/\s+/g, ' ')}\n\n`);
    }
    if (!feed.follow) return;
    if (Date.now() - sentAt >= HEARTBEAT_MS) write(': still here\n\n');
    await sleep(intervalMs, undefined, { signal }).catch(() => undefined);
  }
}
