import { InputError } from '../errors.ts';
import type { Producer } from '../queue/producer.ts';
import type { DatasetStatus, JobStatus } from '../queue/shapes.ts';
import { type CliContext, paintState, printJson, printLines } from './context.ts';
import { withProducer } from './producer.ts';
import { barLine } from './progress-bar.ts';
import { table } from './table.ts';
import { failureOf } from './words.ts';
import { follow, watchDataset } from './watch.ts';

type Options = { readonly watch?: boolean; readonly json?: boolean };

/** Shows all datasets, one of them or one job: once, or until it has ended. */
export async function showStatus(
  id: string | undefined,
  options: Options,
  context: CliContext,
): Promise<void> {
  await withProducer(context, (producer) =>
    id === undefined ? showAll(producer, options, context) : showOne(producer, id, options, context),
  );
}

async function showOne(
  producer: Producer,
  id: string,
  { watch, json }: Options,
  context: CliContext,
): Promise<void> {
  const unknown = () => new InputError(`there is no dataset and no job with the id ${id}`);
  const changed = json ? (value: object) => printJson(context, value) : undefined;
  let found: DatasetStatus | JobStatus | undefined = await producer.dataset(id);
  if (watch && found) found = await watchDataset(producer, id, context, changed);
  else if (watch) {
    found = await follow(
      async (columns) => {
        const job = await producer.job(id);
        if (!job) throw unknown();
        const text = `${job.state} ${job.stage} ${job.frames} frames  ${job.jobId}`;
        return { value: job, lines: [barLine(job.progress, text, columns)], ended: job.finishedAt !== null };
      },
      context,
      changed,
    );
  } else {
    found ??= await producer.job(id);
    if (!found) throw unknown();
    changed?.(found);
  }
  if (!json) {
    printLines(
      context,
      ...('jobId' in found ? describeJob(found, context) : describeDataset(found, context)),
    );
  }
}

async function showAll(producer: Producer, { watch, json }: Options, context: CliContext): Promise<void> {
  const look = async () => {
    const items: DatasetStatus[] = [];
    let cursor: string | undefined;
    do {
      const page = await producer.datasets({ limit: 100, cursor });
      items.push(...page.items);
      cursor = page.next;
    } while (cursor !== undefined);
    return items;
  };
  const print = (items: DatasetStatus[]) =>
    json ? printJson(context, { items }) : printLines(context, ...describeAll(items, context));
  if (!watch) return print(await look());
  // On a terminal the table is drawn in place, else every change is printed; until Ctrl+C either way.
  await follow(
    async () => {
      const items = await look();
      return { value: items, lines: json ? [] : describeAll(items), ended: false };
    },
    context,
    json || !context.err.isTTY ? print : undefined,
  );
}

function describeAll(items: readonly DatasetStatus[], context?: CliContext): string[] {
  if (items.length === 0) return ['no datasets'];
  const rows = items.map(({ datasetId, state, episodes, frames, output }) => [
    datasetId,
    state,
    `${episodes.completed + episodes.skipped}/${episodes.total}`,
    String(episodes.failed),
    String(frames),
    output,
  ]);
  return table(
    [['DATASET', 'STATE', 'DONE', 'FAILED', 'FRAMES', 'OUTPUT'], ...rows],
    [2, 3, 4],
    (padded, column, cell) => (context && column === 1 ? paintState(context.out, cell, padded) : padded),
  );
}

function describeDataset(dataset: DatasetStatus, context: CliContext): string[] {
  const { episodes, failures } = dataset;
  const counts = Object.entries(episodes).filter(([state, count]) => state !== 'total' && count > 0);
  return [
    `${dataset.datasetId}: ${paintState(context.out, dataset.state)}`,
    `  run       ${dataset.runId}`,
    `  output    ${dataset.output}`,
    `  episodes  ${episodes.total} (${counts.map(([state, count]) => `${count} ${state}`).join(', ')})`,
    `  frames    ${dataset.frames}`,
    `  created   ${dataset.createdAt}`,
    ...(dataset.finishedAt === null ? [] : [`  finished  ${dataset.finishedAt}`]),
    ...(dataset.reason === undefined ? [] : [`  reason    ${dataset.reason}`]),
    ...failures.map(({ jobId, source, reason }) => `  failed    ${jobId} ${failureOf(source, reason)}`),
  ];
}

function describeJob(job: JobStatus, context: CliContext): string[] {
  return [
    `${job.jobId}: ${paintState(context.out, job.state)}`,
    `  source    ${job.source}`,
    `  stage     ${job.stage} (${Math.round(job.progress * 100)} %), ${job.frames} frames`,
    `  attempts  ${job.attempts}`,
    `  created   ${job.createdAt}`,
    ...(job.startedAt === null ? [] : [`  started   ${job.startedAt}`]),
    ...(job.finishedAt === null ? [] : [`  finished  ${job.finishedAt}`]),
    ...(job.reason === undefined ? [] : [`  reason    ${job.reason}`]),
  ];
}
