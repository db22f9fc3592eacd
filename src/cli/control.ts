import { splitPublicJobId } from '../queue/jobs.ts';
import { type CliContext, printJson, printLines } from './context.ts';
import { accepted, withProducer } from './producer.ts';
import { counted } from './words.ts';

/** Cancels or retries a dataset or one job. */
export async function control(
  name: 'cancel' | 'retry',
  id: string,
  options: { readonly json?: boolean },
  context: CliContext,
): Promise<void> {
  await withProducer(context, async (producer) => {
    const isDataset = splitPublicJobId(id) === undefined || (await producer.dataset(id)) !== undefined;
    const act = {
      cancel: () => (isDataset ? producer.cancelDataset(id) : producer.cancelJob(id)),
      retry: () => (isDataset ? producer.retryDataset(id) : producer.retryJob(id)),
    };
    const answer = accepted(await act[name]());
    if (options.json) return printJson(context, answer);
    printLines(
      context,
      `${name}: ${counted(answer.episodes, 'recording')} of dataset ${answer.datasetId}, run ${answer.runId}`,
    );
  });
}
