import { CanceledError } from '../errors.ts';
import { enqueueRequestSchema } from '../queue/jobs.ts';
import type { Producer } from '../queue/producer.ts';
import { type CliContext, paintState, printJson, printLines, toUrl, UsageError } from './context.ts';
import { readDatasetConfig } from './dataset-config.ts';
import { accepted, withProducer } from './producer.ts';
import { recordingsOf } from './recordings.ts';
import { counted, failureOf } from './words.ts';
import { watchDataset } from './watch.ts';

type Options = {
  dataset: string;
  config: string;
  out: string;
  task?: string;
  priority?: number;
  wait?: boolean;
  dryRun?: boolean;
  json?: boolean;
};

/** Hands recordings to the service's queue, or says what it would do with them. */
export async function enqueue(
  patterns: readonly string[],
  options: Options,
  context: CliContext,
): Promise<void> {
  const config = await readDatasetConfig(options.config);
  const recordings = await recordingsOf(patterns, options.task, context);
  const parsed = enqueueRequestSchema.safeParse({
    datasetId: options.dataset,
    output: toUrl(options.out),
    config,
    recordings,
    options: options.priority === undefined ? {} : { priority: options.priority },
  });
  if (!parsed.success) {
    const faults = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
    throw new UsageError(faults.join('\n  '));
  }
  if (options.dryRun)
    return (await import('./dry-run.ts')).dryRun(parsed.data, options.json ?? false, context);
  await withProducer(context, async (producer) => {
    const answer = accepted(await producer.enqueueDataset(parsed.data));
    if (options.json) printJson(context, answer);
    else {
      printLines(
        context,
        `dataset ${answer.datasetId}: ${counted(answer.episodes, 'recording')} enqueued as run ${answer.runId}`,
        ...(options.wait ? [] : [`watch it with: roboflow status ${answer.datasetId} --watch`]),
      );
    }
    if (options.wait) await waitFor(answer.datasetId, producer, options, context);
  });
}

async function waitFor(id: string, producer: Producer, options: Options, context: CliContext): Promise<void> {
  const dataset = await watchDataset(producer, id, context).catch((thrown: unknown) => {
    if (thrown instanceof CanceledError)
      context.err.write(`the run goes on without you; stop it with: roboflow cancel ${id}\n`);
    throw thrown;
  });
  if (options.json) printJson(context, dataset);
  else {
    printLines(
      context,
      `dataset ${id}: ${paintState(context.out, dataset.state)}, ${dataset.frames} frames`,
      ...dataset.failures.map(({ source, reason }) => `  ${failureOf(source, reason)}`),
    );
  }
  if (dataset.state !== 'completed') process.exitCode = 1;
}
