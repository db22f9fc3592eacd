import { setTimeout as wait } from 'node:timers/promises';
import { InputError, throwIfAborted } from '../errors.ts';
import { Pace, type ProgressEvent } from '../queue/events.ts';
import type { Producer } from '../queue/producer.ts';
import type { DatasetStatus } from '../queue/shapes.ts';
import type { CliContext } from './context.ts';
import { barLine, ProgressBar } from './progress-bar.ts';
import { humanSeconds } from './words.ts';

const INTERVAL_MS = 500;
/** A dataset that nothing works on for so long may have no worker. */
const PATIENCE_MS = 5000;

/**
 * Something that is looked at again and again: what it is now, how it is shown, and whether that was the last of it;
 * `remark` is for people, and said once.
 */
export type Look<T> = {
  readonly value: T;
  readonly lines: readonly string[];
  readonly ended: boolean;
  readonly remark?: string | undefined;
};

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
  const said = new Set<string>();
  try {
    for (;;) {
      throwIfAborted(context.signal);
      const { value, lines, ended, remark } = await look(context.err.columns || 80);
      if (remark !== undefined && !said.has(remark)) {
        said.add(remark);
        bar.clear();
        context.err.write(`${remark}\n`);
      }
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
  const idle = idleRemark(producer);
  return await follow(
    async (columns) => {
      const dataset = await producer.dataset(id);
      if (!dataset) throw new InputError(`there is no dataset ${id}`);
      const progress = await producer.progress(id, pace);
      const ended = dataset.finishedAt !== null;
      const remark = await idle(ended || progress?.active.length !== 0);
      return { value: dataset, lines: linesOf(dataset, progress, columns), ended, remark };
    },
    context,
    changed,
  );
}

/** A remark for who waits while nothing works, for want of a worker: said by nobody else, it would be a wait for ever. */
function idleRemark(producer: Producer): (working: boolean) => Promise<string | undefined> {
  let since = performance.now();
  return async (working) => {
    const now = performance.now();
    if (working) since = now;
    if (now - since < PATIENCE_MS) return undefined;
    since = now;
    if (await producer.hasWorkers()) return undefined;
    return 'nothing is converted: no worker is connected to this Redis; start the service with: roboflow start';
  };
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
