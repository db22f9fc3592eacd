import { PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import Router from '@koa/router';
import { toError } from '../errors.ts';
import { EVENT_ID, Pace } from '../queue/events.ts';
import { datasetIdSchema } from '../queue/jobs.ts';
import type { Producer } from '../queue/producer.ts';
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
    const last = ctx.get('Last-Event-ID');
    if (last !== '' && !EVENT_ID.test(last)) {
      throw new Problem(400, 'expected a Last-Event-ID as sent with an earlier event');
    }
    if (open >= MAX_STREAMS) {
      throw new Problem(503, `${MAX_STREAMS} event streams are open already`, {
        headers: { 'Retry-After': '5' },
      });
    }
    const after = last === '' ? await producer.newestEvent(id.data) : last;
    const gone = new AbortController();
    const body = new PassThrough();
    body.once('close', () => gone.abort());
    const signal = options.signal ? AbortSignal.any([gone.signal, options.signal]) : gone.signal;
    ctx.set({ 'Content-Type': 'text/event-stream', 'X-Accel-Buffering': 'no' });
    ctx.status = 200;
    ctx.body = body;
    open++;
    void feed(producer, id.data, after, body, signal, options.intervalMs ?? 1000).finally(() => {
      open--;
      body.end();
    });
  });

  return router;
}

/** Sends until `signal` ends it; while Redis is away only heartbeats are sent. */
async function feed(
  producer: Producer,
  datasetId: string,
  from: string,
  body: PassThrough,
  signal: AbortSignal,
  intervalMs: number,
): Promise<void> {
  const pace = new Pace();
  let after = from;
  let before = '';
  let sentAt = Date.now();
  const send = (text: string) => {
    sentAt = Date.now();
    // A reader that does not read is cut rather than buffered for.
    if (!body.write(text) && body.writableLength > 1 << 20) body.destroy();
  };
  body.write('retry: 2000\n\n');
  while (!signal.aborted) {
    try {
      for (const event of await producer.eventsAfter(datasetId, after)) {
        send(`id: ${event.id}\nevent: ${event.type}\ndata: ${JSON.stringify(event.data)}\n\n`);
        after = event.id;
      }
      const progress = await producer.progress(datasetId, pace);
      const { framesPerSecond: _speed, secondsLeft: _left, ...facts } = progress ?? {};
      const now = JSON.stringify(facts);
      if (progress && now !== before) send(`event: progress\ndata: ${JSON.stringify(progress)}\n\n`);
      before = now;
    } catch (thrown) {
      send(`: ${toError(thrown).message.replaceAll(/\s+/g, ' ')}\n\n`);
    }
    if (Date.now() - sentAt >= HEARTBEAT_MS) send(': still here\n\n');
    await sleep(intervalMs, undefined, { signal }).catch(() => undefined);
  }
}
