import type { ActiveJob } from '../queue/running.ts';

/** What primary and workers say to each other over IPC, beside metrics snapshots. */

export type ToWorker =
  | { readonly type: 'drain' }
  /** Hand running jobs back now; the deadline has come. */
  | { readonly type: 'abort' };

export type ToPrimary =
  | { readonly type: 'ready' }
  | { readonly type: 'job-started'; readonly job: ActiveJob }
  | { readonly type: 'job-ended'; readonly job: ActiveJob };

/** Narrows an IPC message of unknown origin to one of ours. */
export function isToPrimary(message: unknown): message is ToPrimary {
  const type = (message as { type?: unknown } | null)?.type;
  return type === 'ready' || type === 'job-started' || type === 'job-ended';
}

/** Narrows an IPC message of unknown origin to one of ours. */
export function isToWorker(message: unknown): message is ToWorker {
  const type = (message as { type?: unknown } | null)?.type;
  return type === 'drain' || type === 'abort';
}
