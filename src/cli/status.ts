import { Command } from 'commander';
import { InputError } from '../errors.ts';
import type { Producer } from '../queue/producer.ts';
import type { DatasetStatus, JobStatus } from '../queue/shapes.ts';
import { type CliContext, printJson, printLines } from './context.ts';
import { withProducer } from './producer.ts';
import { table } from './table.ts';
import { watchDataset } from './watch.ts';

/** `roboflow status [DATASET|JOB]`: what the API answers, for people or with `--json`. */
export function statusCommand(context: CliContext): Command {
  return new Command('status')
    .description('show datasets, one dataset or one job')
    .argument('[id]', 'dataset or job')
    .option('-w, --watch', 'follow a dataset until its run has ended')
    .option('--json', 'machine-readable output')
    .addHelpText(
      'after',
      '\nExamples:\n  $ roboflow status\n  $ roboflow status bottles --watch\n  $ roboflow status bottles.ep_001-0f3a --json',
    )
    .action(async (id: string | undefined, options: { watch?: boolean; json?: boolean }) => {
      await withProducer(context, async (producer) => {
        if (id === undefined) return showAll(producer, options.json ?? false, context);
        if (options.watch) await watchDataset(producer, id, context);
        const found = (await producer.dataset(id)) ?? (await producer.job(id));
        if (!found) throw new InputError(`there is no dataset and no job with the id ${id}`);
        if (options.json) printJson(context, found);
        else printLines(context, ...('jobId' in found ? describeJob(found) : describeDataset(found)));
      });
    });
}

async function showAll(producer: Producer, json: boolean, context: CliContext): Promise<void> {
  const items: DatasetStatus[] = [];
  let cursor: string | undefined;
  do {
    const page = await producer.datasets({ limit: 100, cursor });
    items.push(...page.items);
    cursor = page.next;
  } while (cursor !== undefined);
  if (json) return printJson(context, { items });
  if (items.length === 0) return printLines(context, 'no datasets');
  const rows = items.map(({ datasetId, state, episodes, frames, output }) => [
    datasetId,
    state,
    `${episodes.completed + episodes.skipped}/${episodes.total}`,
    String(episodes.failed),
    String(frames),
    output,
  ]);
  printLines(
    context,
    ...table([['DATASET', 'STATE', 'DONE', 'FAILED', 'FRAMES', 'OUTPUT'], ...rows], [2, 3, 4]),
  );
}

function describeDataset(dataset: DatasetStatus): string[] {
  const { episodes, failures } = dataset;
  const counts = Object.entries(episodes).filter(([state, count]) => state !== 'total' && count > 0);
  return [
    `${dataset.datasetId}: ${dataset.state}`,
    `  run       ${dataset.runId}`,
    `  output    ${dataset.output}`,
    `  episodes  ${episodes.total} (${counts.map(([state, count]) => `${count} ${state}`).join(', ')})`,
    `  frames    ${dataset.frames}`,
    `  created   ${dataset.createdAt}`,
    ...(dataset.finishedAt === null ? [] : [`  finished  ${dataset.finishedAt}`]),
    ...(dataset.reason === undefined ? [] : [`  reason    ${dataset.reason}`]),
    ...failures.map(({ jobId, source, reason }) => `  failed    ${jobId} ${source}: ${reason}`),
  ];
}

function describeJob(job: JobStatus): string[] {
  return [
    `${job.jobId}: ${job.state}`,
    `  source    ${job.source}`,
    `  stage     ${job.stage} (${Math.round(job.progress * 100)} %), ${job.frames} frames`,
    `  attempts  ${job.attempts}`,
    `  created   ${job.createdAt}`,
    ...(job.startedAt === null ? [] : [`  started   ${job.startedAt}`]),
    ...(job.finishedAt === null ? [] : [`  finished  ${job.finishedAt}`]),
    ...(job.reason === undefined ? [] : [`  reason    ${job.reason}`]),
  ];
}
