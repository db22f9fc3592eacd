import { setTimeout as wait } from 'node:timers/promises';
import { InputError, throwIfAborted } from '../errors.ts';
import { Pace, type ProgressEvent } from '../queue/events.ts';
import type { Producer } from '../queue/producer.ts';
import type { DatasetStatus } from '../queue/shapes.ts';
import type { CliContext } from './context.ts';
import { barLine, ProgressBar } from './progress-bar.ts';
import { humanSeconds } from './table.ts';

const INTERVAL_MS = 500;

/** Something that is looked at again and again: what it is now, how it is shown, and whether that was the last of it. */
export type Look<T> = { readonly value: T; readonly lines: readonly string[]; readonly ended: boolean };

/**
 * Shows what `look` finds, drawn again in place, until it has ended; resolves with the end. `changed` is told every new
 * value. Rejects when the command is interrupted.
 */
export async function follow<T>(
  look: (columns: number) => Promise<Look<T>>,
  context: CliContext,
  changed: (value: T) => void = () => undefined,
): Promise<T> {
  const bar = new ProgressBar(context.err);
  let before: string | undefined;
  try {
    for (;;) {
      throwIfAborted(context.signal);
      const { value, lines, ended } = await look(context.err.columns || 80);
      bar.showLines(lines);
      const now = JSON.stringify(value);
      if (now !== before) changed(value);
      before = now;
      if (ended) return value;
      await wait(INTERVAL_MS, undefined, { signal: context.signal }).catch(() => undefined);
    }
  } finally {
    bar.clear();
  }
}

/** Shows a dataset's progress and its running jobs until its run has ended; resolves with the end. */
export async function watchDataset(
  producer: Producer,
  id: string,
  context: CliContext,
  changed?: (dataset: DatasetStatus) => void,
): Promise<DatasetStatus> {
  const pace = new Pace();
  return await follow(
    async (columns) => {
      const dataset = await producer.dataset(id);
      if (!dataset) throw new InputError(`there is no dataset ${id}`);
      const progress = await producer.progress(id, pace);
      const ended = dataset.finishedAt !== null;
      return { value: dataset, lines: linesOf(dataset, progress, columns), ended };
    },
    context,
    changed,
  );
}

function linesOf(dataset: DatasetStatus, progress: ProgressEvent | undefined, columns: number): string[] {
  const { total, completed, failed, skipped, cancelled } = dataset.episodes;
  const { active = [], framesPerSecond = null, secondsLeft = null } = progress ?? {};
  const done = completed + failed + skipped + cancelled;
  const running = active.reduce((sum, job) => sum + job.progress, 0);
  const parts = [
    `${done} of ${total}`,
    ...(failed > 0 ? [`${failed} failed`] : []),
    ...(framesPerSecond ? [`${Math.round(framesPerSecond)} frames/s`] : []),
    ...(secondsLeft === null ? [] : [`${humanSeconds(secondsLeft)} left`]),
  ];
  const share = total === 0 ? 0 : (done + running) / total;
  return [
    barLine(share, `${dataset.datasetId} ${dataset.state}: ${parts.join(', ')}`, columns),
    ...active.map((job) =>
      barLine(job.progress, `${job.stage} ${job.jobId.slice(dataset.datasetId.length + 1)}`, columns),
    ),
  ];
}
