import { setTimeout as wait } from 'node:timers/promises';
import { InputError, throwIfAborted } from '../errors.ts';
import type { Producer } from '../queue/producer.ts';
import type { DatasetStatus } from '../queue/shapes.ts';
import type { CliContext } from './context.ts';
import { ProgressBar } from './progress-bar.ts';

const INTERVAL_MS = 500;
const ENDED: ReadonlySet<string> = new Set(['completed', 'partial', 'failed', 'cancelled']);

/** Shows a dataset's progress until its run has ended; resolves with the end. */
export async function watchDataset(
  producer: Producer,
  id: string,
  context: CliContext,
): Promise<DatasetStatus> {
  const bar = new ProgressBar(context.err);
  try {
    for (;;) {
      throwIfAborted(context.signal);
      const dataset = await producer.dataset(id);
      if (!dataset) throw new InputError(`there is no dataset ${id}`);
      if (ENDED.has(dataset.state)) return dataset;
      const { total, completed, failed, skipped, cancelled, active } = dataset.episodes;
      const done = completed + failed + skipped + cancelled;
      const parts = [`${done} of ${total}`, `${active} active`, ...(failed > 0 ? [`${failed} failed`] : [])];
      bar.show(total === 0 ? 0 : done / total, `${id} ${dataset.state}: ${parts.join(', ')}`);
      await wait(INTERVAL_MS, undefined, { signal: context.signal }).catch(() => undefined);
    }
  } finally {
    bar.clear();
  }
}
