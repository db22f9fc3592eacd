import { Command } from 'commander';
import type { Enqueued } from '../queue/jobs.ts';
import type { Producer } from '../queue/producer.ts';
import type { Refusal } from '../queue/refusals.ts';
import { splitPublicJobId } from '../queue/jobs.ts';
import { type CliContext, printJson, printLines } from './context.ts';
import { accepted, withProducer } from './producer.ts';

type Action = (producer: Producer, id: string, isDataset: boolean) => Promise<Enqueued | Refusal>;

/** `roboflow cancel DATASET|JOB`: stops what waits and runs. */
export function cancelCommand(context: CliContext): Command {
  return control(
    context,
    'cancel',
    'stop a dataset or one job; what is converted stays',
    (producer, id, isDataset) => (isDataset ? producer.cancelDataset(id) : producer.cancelJob(id)),
  );
}

/** `roboflow retry DATASET|JOB`: runs again what failed or was cancelled. */
export function retryCommand(context: CliContext): Command {
  return control(context, 'retry', 'run again what failed or was cancelled', (producer, id, isDataset) =>
    isDataset ? producer.retryDataset(id) : producer.retryJob(id),
  );
}

function control(context: CliContext, name: string, description: string, action: Action): Command {
  return new Command(name)
    .description(description)
    .argument('<id>', 'dataset or job')
    .option('--json', 'machine-readable output')
    .addHelpText(
      'after',
      `\nExamples:\n  $ roboflow ${name} bottles\n  $ roboflow ${name} bottles.ep_001-0f3a`,
    )
    .action(async (id: string, options: { json?: boolean }) => {
      await withProducer(context, async (producer) => {
        const isDataset = splitPublicJobId(id) === undefined || (await producer.dataset(id)) !== undefined;
        const answer = accepted(await action(producer, id, isDataset));
        if (options.json) printJson(context, answer);
        else
          printLines(
            context,
            `${name}: ${answer.episodes} recordings of dataset ${answer.datasetId}, run ${answer.runId}`,
          );
      });
    });
}
