import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { Command } from 'commander';
import { Registry } from 'prom-client';
import { toError } from '../errors.ts';
import { createMetrics } from '../metrics/index.ts';
import { enqueueRequestSchema, type Recording, recordingSchema } from '../queue/jobs.ts';
import type { Producer } from '../queue/producer.ts';
import { expandSources } from '../storage/expand-sources.ts';
import { type CliContext, printJson, printLines, toUrl, UsageError, wholeNumber } from './context.ts';
import { readDatasetConfig } from './convert.ts';
import { accepted, withProducer } from './producer.ts';
import { sourceSettings } from './settings.ts';
import { watchDataset } from './watch.ts';

type Options = {
  dataset: string;
  config: string;
  out: string;
  task?: string;
  priority?: number;
  wait?: boolean;
  json?: boolean;
};

/** `roboflow enqueue … --dataset ID --config FILE --out URL`: hands recordings to the service's queue. */
export function enqueueCommand(context: CliContext): Command {
  return new Command('enqueue')
    .description('hand recordings to the running service: files, globs, prefixes, or @manifest.jsonl')
    .argument('<recordings...>', 'file, glob, folder or URL prefix; @file: JSON lines {"source", "task"?}')
    .requiredOption('-d, --dataset <id>', 'id of the dataset')
    .requiredOption('-c, --config <file>', 'dataset config (YAML or JSON)')
    .requiredOption('-o, --out <url>', 'folder or URL of the dataset')
    .option('-t, --task <text>', 'task of recordings that have none of their own')
    .option('-p, --priority <n>', '0 is taken first, 9 last', wholeNumber(0, 9))
    .option('-w, --wait', 'wait until the run has ended; exit code 1 unless it is completed')
    .option('--json', 'machine-readable output')
    .addHelpText(
      'after',
      '\nExamples:\n  $ roboflow enqueue "s3://raw/day1/*.mcap" --dataset bottles --config robot.yaml --out s3://datasets/bottles\n' +
        '  $ roboflow enqueue @recordings.jsonl --dataset bottles --config robot.yaml --out ./bottles --wait',
    )
    .action(async (patterns: string[], options: Options) => {
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
      await withProducer(context, async (producer) => {
        const answer = accepted(await producer.enqueueDataset(parsed.data));
        if (options.json) printJson(context, answer);
        else {
          printLines(
            context,
            `dataset ${answer.datasetId}: ${answer.episodes} recordings enqueued as run ${answer.runId}`,
            ...(options.wait ? [] : [`watch it with: roboflow status ${answer.datasetId} --watch`]),
          );
        }
        if (options.wait) await waitFor(answer.datasetId, producer, options, context);
      });
    });
}

async function waitFor(id: string, producer: Producer, options: Options, context: CliContext): Promise<void> {
  const dataset = await watchDataset(producer, id, context);
  if (options.json) printJson(context, dataset);
  else {
    printLines(
      context,
      `dataset ${id}: ${dataset.state}, ${dataset.frames} frames`,
      ...dataset.failures.map(({ source, reason }) => `  ${source}: ${reason}`),
    );
  }
  if (dataset.state !== 'completed') process.exitCode = 1;
}

/** The recordings that patterns and manifests name, each once. */
async function recordingsOf(
  patterns: readonly string[],
  task: string | undefined,
  context: CliContext,
): Promise<Recording[]> {
  const metrics = createMetrics(new Registry()).storage;
  const options = { ...sourceSettings(), metrics, cwd: process.cwd(), signal: context.signal };
  const recordings: Recording[] = [];
  for (const pattern of patterns) {
    if (pattern.startsWith('@')) {
      recordings.push(...(await readManifest(pattern.slice(1))));
      continue;
    }
    for (const { url } of await expandSources([pattern], options)) recordings.push({ source: url });
  }
  return recordings.map((recording) => (task === undefined ? recording : { task, ...recording }));
}

/** A file of JSON lines, one recording each; `-` is standard input. */
async function readManifest(path: string): Promise<Recording[]> {
  const recordings: Recording[] = [];
  let number = 0;
  try {
    const input = path === '-' ? process.stdin : createReadStream(path);
    for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
      number++;
      if (line.trim() === '') continue;
      const { source, ...rest } = recordingSchema.parse(JSON.parse(line));
      recordings.push({ source: toUrl(source), ...rest });
    }
  } catch (thrown) {
    const detail = toError(thrown).message.replaceAll(/\s+/g, ' ');
    throw new UsageError(`${path}, line ${number}: expected {"source": "…", "task"?: "…"}: ${detail}`, {
      cause: thrown,
    });
  }
  return recordings;
}
