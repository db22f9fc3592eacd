import { setTimeout as sleep } from 'node:timers/promises';
import { randomUUID } from 'node:crypto';
import type { DatasetConfigInput } from './conversion/config.ts';
import type { Enqueued, EnqueueOptions, Recording } from './queue/jobs.ts';
import type { ProgressEvent } from './queue/events.ts';
import type { DatasetStatus, JobState, JobStatus } from './queue/shapes.ts';
import type { WatchStatus } from './queue/watches.ts';

/**
 * The API from a program, typed by the schemas that validate it on the other side:
 *
 *     import { RoboflowClient } from 'roboflow-worker/client';
 */

export type { DatasetStatus, Enqueued, JobState, JobStatus, ProgressEvent, Recording, WatchStatus };

/** Body of an enqueue. */
export type EnqueueBody = {
  readonly datasetId: string;
  /** Folder or URL the dataset is written to. */
  readonly output: string;
  readonly config: DatasetConfigInput;
  readonly recordings: readonly Recording[];
  readonly options?: Partial<EnqueueOptions>;
};

/** Body of a watch; `prefix` is a folder or URL. */
export type WatchBody = Omit<EnqueueBody, 'recordings'> & {
  readonly prefix: string;
  readonly everySeconds?: number;
};

/** One server-sent event; `job` and `dataset` events have an id to go on from. */
export type ApiEvent =
  | {
      readonly type: 'job';
      readonly id: string;
      readonly data: {
        readonly jobId: string;
        readonly state: string;
        readonly frames: number;
        readonly reason?: string;
      };
    }
  | {
      readonly type: 'dataset';
      readonly id: string;
      readonly data: { readonly runId: string; readonly state: string };
    }
  | { readonly type: 'progress'; readonly data: ProgressEvent };

/** The service refused: RFC 9457. `errors` names every faulty field by its JSON pointer. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly status: number;
  readonly title: string;
  readonly errors: readonly { readonly pointer: string; readonly detail: string }[];
  readonly requestId: string | undefined;
  /** Set when the same request may succeed later: seconds to wait. */
  readonly retryAfterSeconds: number | undefined;
  constructor(
    status: number,
    problem: {
      title?: string;
      detail?: string;
      errors?: readonly { readonly pointer: string; readonly detail: string }[];
      requestId?: string;
    },
    retryAfterSeconds?: number,
  ) {
    super(problem.detail ?? `the service answered ${status}`);
    this.status = status;
    this.title = problem.title ?? '';
    this.errors = problem.errors ?? [];
    this.requestId = problem.requestId;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

export type ClientOptions = {
  /** Default: `http://127.0.0.1:8080`. */
  readonly url?: string;
  /** The service's `API_TOKEN`. */
  readonly token?: string;
  /** Tries of a request while the service is busy or away (429, 503, no connection), the first included; default 5. */
  readonly maxAttempts?: number;
  /** Longest an answer may take, ms; default 30 s. */
  readonly timeoutMs?: number;
};

type CallOptions = {
  /** Stops the call. */
  readonly signal?: AbortSignal;
};

/** Options of a call that changes something. */
export type ChangeOptions = CallOptions & {
  /** Default: a new one for each call, so that its own repetitions are done once. */
  readonly idempotencyKey?: string;
};

const ENDED: ReadonlySet<string> = new Set(['completed', 'partial', 'failed', 'cancelled']);

/** A client of the jobs API. Every method rejects with an `ApiError` when the service refuses. */
export class RoboflowClient {
  readonly #base: string;
  readonly #options: ClientOptions;

  constructor(options: ClientOptions = {}) {
    this.#options = options;
    this.#base = (options.url ?? 'http://127.0.0.1:8080').replace(/\/+$/, '');
  }

  /** Adds recordings to a dataset, which is made when it is new. */
  enqueue(body: EnqueueBody, options?: ChangeOptions): Promise<Enqueued> {
    return this.#change('/v1/datasets', body, options);
  }

  /** Adds recordings to a known dataset, under its newest config. */
  append(
    datasetId: string,
    body: Pick<EnqueueBody, 'recordings' | 'options'>,
    options?: ChangeOptions,
  ): Promise<Enqueued> {
    return this.#change(`${datasetPath(datasetId)}/episodes`, body, options);
  }

  dataset(datasetId: string, options?: CallOptions): Promise<DatasetStatus> {
    return this.#get(datasetPath(datasetId), options);
  }

  /** All datasets, newest first. */
  datasets(options?: CallOptions): AsyncGenerator<DatasetStatus> {
    return this.#pages('/v1/datasets', {}, options);
  }

  cancelDataset(datasetId: string, options?: ChangeOptions): Promise<Enqueued> {
    return this.#change(`${datasetPath(datasetId)}/cancel`, undefined, options);
  }

  /** Converts again what failed or was cancelled. */
  retryDataset(datasetId: string, options?: ChangeOptions): Promise<Enqueued> {
    return this.#change(`${datasetPath(datasetId)}/retry`, undefined, options);
  }

  job(jobId: string, options?: CallOptions): Promise<JobStatus> {
    return this.#get(jobPath(jobId), options);
  }

  /** All jobs, of one dataset or in one state when asked for. */
  jobs(
    filter: { readonly dataset?: string; readonly state?: JobState } = {},
    options?: CallOptions,
  ): AsyncGenerator<JobStatus> {
    return this.#pages('/v1/jobs', filter, options);
  }

  cancelJob(jobId: string, options?: ChangeOptions): Promise<Enqueued & { jobId: string }> {
    return this.#change(`${jobPath(jobId)}/cancel`, undefined, options);
  }

  retryJob(jobId: string, options?: ChangeOptions): Promise<Enqueued & { jobId: string }> {
    return this.#change(`${jobPath(jobId)}/retry`, undefined, options);
  }

  /** Lets the service enqueue what appears below a prefix. */
  watch(body: WatchBody, options?: ChangeOptions): Promise<WatchStatus> {
    return this.#change('/v1/watches', body, options);
  }

  async watches(options?: CallOptions): Promise<WatchStatus[]> {
    return (await this.#get<{ items: WatchStatus[] }>('/v1/watches', options)).items;
  }

  async unwatch(watchId: string, options?: CallOptions): Promise<void> {
    await this.#request('DELETE', `/v1/watches/${encodeURIComponent(watchId)}`, options);
  }

  /** Waiting, running and soon due jobs. */
  async scaling(options?: CallOptions): Promise<number> {
    return (await this.#get<{ value: number }>('/v1/scaling', options)).value;
  }

  /**
   * What happens to a dataset from now on, or after the event `after`, until the caller leaves the loop. A stream that
   * breaks is opened again where it broke.
   */
  async *events(
    datasetId: string,
    options: CallOptions & { readonly after?: string } = {},
  ): AsyncGenerator<ApiEvent> {
    let { after } = options;
    for (let attempt = 1; ; attempt++) {
      let broken: unknown = new Error('the stream of events ended');
      try {
        for await (const event of this.#stream(datasetId, after, options.signal)) {
          attempt = 0;
          if ('id' in event) after = event.id;
          yield event;
        }
      } catch (thrown) {
        broken = thrown;
      }
      await this.#beforeNext(attempt, broken, options.signal);
    }
  }

  /** The dataset once its newest run has ended. */
  async wait(
    datasetId: string,
    options: CallOptions & { readonly onProgress?: (progress: ProgressEvent) => void } = {},
  ): Promise<DatasetStatus> {
    for await (const event of this.events(datasetId, options)) {
      if (event.type === 'progress') options.onProgress?.(event.data);
      // The first event of a stream is the progress, so that a run that has ended before is noticed too.
      if (event.type === 'job' || !ENDED.has(event.data.state)) continue;
      const status = await this.dataset(datasetId, options);
      if (status.finishedAt !== null) return status;
    }
    throw new Error('the stream of events does not end by itself');
  }

  async *#stream(
    datasetId: string,
    after: string | undefined,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<ApiEvent> {
    const left = new AbortController();
    try {
      const response = await this.#fetch('GET', `${datasetPath(datasetId)}/events`, {
        signal: signal ? AbortSignal.any([signal, left.signal]) : left.signal,
        headers: { Accept: 'text/event-stream', ...(after === undefined ? {} : { 'Last-Event-ID': after }) },
      });
      let text = '';
      const decoder = new TextDecoder();
      for await (const chunk of response.body ?? []) {
        text += decoder.decode(chunk, { stream: true });
        for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
          const event = parseEvent(text.slice(0, end));
          text = text.slice(end + 2);
          if (event) yield event;
        }
      }
    } finally {
      left.abort();
    }
  }

  async *#pages<T>(path: string, query: object, options?: CallOptions): AsyncGenerator<T> {
    let next: string | undefined;
    do {
      const given = { ...query, ...(next === undefined ? {} : { cursor: next }) };
      const page = await this.#get<{ items: T[]; next?: string }>(
        `${path}?${new URLSearchParams(given).toString()}`,
        options,
      );
      yield* page.items;
      next = page.next;
    } while (next !== undefined);
  }

  async #get<T>(path: string, options?: CallOptions): Promise<T> {
    return (await (await this.#request('GET', path, options)).json()) as T;
  }

  async #change<T>(path: string, body: unknown, options: ChangeOptions = {}): Promise<T> {
    const headers = {
      'Idempotency-Key': options.idempotencyKey ?? randomUUID(),
      ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
    };
    const response = await this.#request('POST', path, options, {
      headers,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return (await response.json()) as T;
  }

  /** Repeats while the service is busy or away; only what may be repeated comes here. */
  async #request(
    method: string,
    path: string,
    options: CallOptions = {},
    init: { headers?: Record<string, string>; body?: string } = {},
  ): Promise<Response> {
    const { timeoutMs = 30_000 } = this.#options;
    for (let attempt = 1; ; attempt++) {
      const timeout = AbortSignal.timeout(timeoutMs);
      const signal = options.signal ? AbortSignal.any([options.signal, timeout]) : timeout;
      try {
        return await this.#fetch(method, path, { ...init, signal });
      } catch (thrown) {
        await this.#beforeNext(attempt, thrown, options.signal);
      }
    }
  }

  /** Waits before another try; throws when there is to be none. */
  async #beforeNext(attempt: number, thrown: unknown, signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    const refusedForGood = thrown instanceof ApiError && thrown.retryAfterSeconds === undefined;
    if (refusedForGood || attempt >= (this.#options.maxAttempts ?? 5)) throw thrown;
    const seconds = thrown instanceof ApiError ? (thrown.retryAfterSeconds ?? 0) : 0.25 * 2 ** attempt;
    await sleep(seconds * 1000, undefined, signal ? { signal } : {});
  }

  async #fetch(
    method: string,
    path: string,
    init: { headers?: Record<string, string>; body?: string; signal: AbortSignal },
  ): Promise<Response> {
    const { token } = this.#options;
    const headers = { ...init.headers, ...(token === undefined ? {} : { Authorization: `Bearer ${token}` }) };
    const response = await fetch(this.#base + path, { ...init, method, headers });
    if (response.ok) return response;
    const after = Number(response.headers.get('Retry-After'));
    throw new ApiError(response.status, await problemOf(response), after > 0 ? after : undefined);
  }
}

function datasetPath(id: string): string {
  return `/v1/datasets/${encodeURIComponent(id)}`;
}

function jobPath(id: string): string {
  return `/v1/jobs/${encodeURIComponent(id)}`;
}

/** The problem of a refusal; what stands between client and service may answer something else. */
async function problemOf(response: Response): Promise<ConstructorParameters<typeof ApiError>[1]> {
  const text = await response.text();
  if (!response.headers.get('Content-Type')?.includes('json')) return { detail: text.slice(0, 200) };
  return JSON.parse(text) as ConstructorParameters<typeof ApiError>[1];
}

/** One block of a stream; undefined for comments. */
function parseEvent(block: string): ApiEvent | undefined {
  const field = (name: string) =>
    block
      .split('\n')
      .find((line) => line.startsWith(`${name}: `))
      ?.slice(name.length + 2);
  const data = field('data');
  if (data === undefined) return undefined;
  const id = field('id');
  return { type: field('event'), ...(id === undefined ? {} : { id }), data: JSON.parse(data) } as ApiEvent;
}
