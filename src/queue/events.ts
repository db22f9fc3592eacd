import { z } from 'zod';
import type { QueueClient } from './client.ts';
import { episodeJobId, progressSchema, publicJobId, QUEUES, splitEpisodeJobId } from './jobs.ts';
import type { DatasetStatus } from './shapes.ts';

/**
 * What happens to a dataset, as a stream: a `job` event when a recording ends, a `dataset` event when the dataset's
 * state or run changes. Written with the change itself, kept for the last 1,000 events and a week.
 */

export const jobEventSchema = z.object({
  jobId: z.string(),
  state: z.string(),
  frames: z.int(),
  reason: z.string().optional(),
});
export const datasetEventSchema = z.object({ runId: z.string(), state: z.string() });

/** What runs now, and how fast; not kept. */
export const progressEventSchema = z.object({
  datasetId: z.string(),
  runId: z.string(),
  state: z.string(),
  episodes: z.record(z.string(), z.int()),
  /** Rows converted so far, those of running jobs included. */
  frames: z.int(),
  active: z.array(
    z.object({
      jobId: z.string(),
      stage: z.string(),
      progress: z.number(),
      frames: z.int(),
      expectedFrames: z.number(),
    }),
  ),
  /** Over the last minute; null until there are two readings. */
  framesPerSecond: z.number().nullable(),
  secondsLeft: z.number().nullable(),
});

export type ProgressEvent = z.output<typeof progressEventSchema>;

/** An event of the stream; ids grow with time and can be asked for again. */
export type DatasetEvent = { readonly id: string; readonly type: 'job' | 'dataset'; readonly data: object };

/** Shape of an event id. */
export const EVENT_ID = /^\d{1,16}-\d{1,16}$/;

/** Events after the id `after`, oldest first, at most 500. */
export async function eventsAfter(
  client: QueueClient,
  datasetId: string,
  after: string,
): Promise<DatasetEvent[]> {
  const { redis, store } = client;
  const found = await redis.xrange(store.keys.events(datasetId), `(${after}`, '+', 'COUNT', 500);
  return found.flatMap(([id, fields]): DatasetEvent[] => {
    const text = (name: string) => fields[fields.indexOf(name) + 1] ?? '';
    if (fields[0] === 'job') {
      const { state, frames, reason } = z
        .object({ state: z.string(), frames: z.int(), reason: z.string().optional() })
        .parse(JSON.parse(text('outcome')));
      const data = {
        jobId: publicJobId(datasetId, text('job')),
        state,
        frames,
        ...(reason ? { reason } : {}),
      };
      return [{ id, type: 'job', data }];
    }
    return [{ id, type: 'dataset', data: { runId: text('dataset'), state: text('state') } }];
  });
}

/** Id of the newest event; `0-0` when there is none. */
export async function newestEvent(client: QueueClient, datasetId: string): Promise<string> {
  const [newest] = await client.redis.xrevrange(client.store.keys.events(datasetId), '+', '-', 'COUNT', 1);
  return newest?.[0] ?? '0-0';
}

/** Progress of the jobs of a dataset that run now. */
export async function activeProgress(
  client: QueueClient,
  datasetId: string,
): Promise<ProgressEvent['active']> {
  const { redis, store, episodes } = client;
  const ids = await redis.lrange(store.keys.active(QUEUES.episode), 0, -1);
  const parts = ids.flatMap((id) => splitEpisodeJobId(id) ?? []);
  const entries = await store.entries(
    datasetId,
    parts.map(({ key }) => key),
  );
  const active: ProgressEvent['active'] = [];
  for (const [i, { runId, key }] of parts.entries()) {
    if (entries[i]?.runId !== runId) continue;
    const job = await episodes.getJob(episodeJobId(runId, key));
    const at = progressSchema.safeParse(job?.progress).data;
    const jobId = publicJobId(datasetId, key);
    active.push({
      jobId,
      stage: at?.stage ?? 'plan',
      progress: at?.fraction ?? 0,
      frames: at?.frames ?? 0,
      expectedFrames: at?.expectedFrames ?? 0,
    });
  }
  return active;
}

/** Readings older than this do not count for the speed, ms. */
const WINDOW_MS = 60_000;

/** Speed and time left of one dataset, from repeated readings. */
export class Pace {
  readonly #readings: { readonly at: number; readonly frames: number; readonly done: number }[] = [];

  /** Adds a reading and says what is known. */
  read(status: DatasetStatus, active: ProgressEvent['active'], now = Date.now()): ProgressEvent {
    const { completed, failed, cancelled, skipped, total } = status.episodes;
    const running = active.reduce((sum, job) => sum + job.progress, 0);
    const done = completed + failed + cancelled + skipped + running;
    const frames = status.frames + active.reduce((sum, job) => sum + job.frames, 0);
    this.#readings.push({ at: now, frames, done });
    while (this.#readings.length > 2 && now - (this.#readings[0]?.at ?? now) > WINDOW_MS)
      this.#readings.shift();
    const first = this.#readings[0];
    const seconds = first ? (now - first.at) / 1000 : 0;
    const speed = (from: number, to: number) => (seconds > 0 ? Math.max(0, (to - from) / seconds) : null);
    const pace = first ? speed(first.done, done) : null;
    return {
      datasetId: status.datasetId,
      runId: status.runId,
      state: status.state,
      episodes: status.episodes,
      frames,
      active,
      framesPerSecond: first ? speed(first.frames, frames) : null,
      secondsLeft: pace ? Math.round((total - done) / pace) : null,
    };
  }
}
