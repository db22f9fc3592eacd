import { CanceledError, type CancelReason } from '../errors.ts';
import type { QueueName } from './jobs.ts';

/** A job a worker works on, with the token that proves it to the queue, and the worker's name there. */
export type ActiveJob = {
  readonly queue: QueueName;
  readonly jobId: string;
  readonly token: string;
  readonly worker: string;
};

/** Told about every job that begins and ends here, so that a supervisor can give back what a dead process held. */
export type ActiveListener = {
  onStart?: ((job: ActiveJob) => void) | undefined;
  onEnd?: ((job: ActiveJob) => void) | undefined;
};

/** The jobs this process works on, each with the one `AbortSignal` that stops it. */
export class RunningJobs {
  readonly #jobs = new Map<string, { job: ActiveJob; controller: AbortController }>();
  readonly #listener: ActiveListener;
  #stopping: CancelReason | undefined;

  constructor(listener: ActiveListener = {}) {
    this.#listener = listener;
  }

  /** Begins a job. A queue runs one job at a time here, so whatever it still held has been lost before. */
  start(job: ActiveJob): AbortSignal {
    for (const { job: other } of this.#jobs.values()) if (other.queue === job.queue) this.end(other);
    const controller = new AbortController();
    this.#jobs.set(idOf(job), { job, controller });
    this.#listener.onStart?.(job);
    if (this.#stopping) controller.abort(new CanceledError(this.#stopping));
    return controller.signal;
  }

  /** Ends a job; harmless when it has ended. */
  end(job: Pick<ActiveJob, 'queue' | 'jobId'>): void {
    const running = this.#jobs.get(idOf(job));
    if (!running) return;
    this.#jobs.delete(idOf(job));
    this.#listener.onEnd?.(running.job);
  }

  /** Stops one job. */
  stop(queue: QueueName, jobId: string, reason: CancelReason): boolean {
    const running = this.#jobs.get(`${queue}/${jobId}`);
    running?.controller.abort(new CanceledError(reason));
    return running !== undefined;
  }

  /** Stops every job, and every one that begins from now on. */
  stopAll(reason: CancelReason): void {
    this.#stopping = reason;
    for (const { controller } of this.#jobs.values()) controller.abort(new CanceledError(reason));
  }

  list(): ActiveJob[] {
    return [...this.#jobs.values()].map(({ job }) => job);
  }
}

function idOf(job: Pick<ActiveJob, 'queue' | 'jobId'>): string {
  return `${job.queue}/${job.jobId}`;
}
