import PQueue from 'p-queue';
import { Registry } from 'prom-client';
import { readLedger } from '../conversion/ledger.ts';
import { previewConversion, type Preview } from '../conversion/preview.ts';
import { checkVideoLayout } from '../conversion/video-layout.ts';
import { InputError } from '../errors.ts';
import { createMetrics } from '../metrics/index.ts';
import { type EnqueueRequest, recordingKey } from '../queue/jobs.ts';
import { openStorage } from '../storage/open.ts';
import { type CliContext, printJson, printLines } from './context.ts';
import { locationChecks } from './producer.ts';
import { ProgressBar } from './progress-bar.ts';
import { sourceSettings } from './settings.ts';
import { failureOf } from './words.ts';

/** Recordings planned at the same time: planning waits for storage more than it computes. */
const CONCURRENCY = 4;

/**
 * Plans every recording of a request and prints what would happen, without Redis and without writing. Sets exit code 1
 * when a recording would fail, or not fit to the first.
 */
export async function dryRun(
  { datasetId, output, config, recordings }: EnqueueRequest,
  json: boolean,
  context: CliContext,
): Promise<void> {
  const { signal } = context;
  const metrics = createMetrics(new Registry());
  const check = locationChecks();
  const out = await check.output(output);
  const storage = openStorage(out, { ...sourceSettings(), metrics: metrics.storage, role: 'destination' });
  const ledger = await readLedger(storage, datasetId, signal);
  const keys = recordings.map(({ source }) => recordingKey(source));
  await checkVideoLayout(storage, keys, config, signal);
  const plan = async ({ source, task }: EnqueueRequest['recordings'][number]): Promise<Preview> => {
    try {
      await check.source(source);
    } catch (thrown) {
      if (!(thrown instanceof InputError)) throw thrown;
      return { outcome: 'refuse', source, reason: thrown.message };
    }
    return previewConversion(
      { source, config, key: recordingKey(source), ...(task === undefined ? {} : { task }) },
      ledger,
      { output: storage, sources: sourceSettings(), metrics, signal },
    );
  };
  const bar = new ProgressBar(context.err);
  const queue = new PQueue({ concurrency: CONCURRENCY });
  const unique = [...new Map(recordings.map((recording) => [recording.source, recording])).values()];
  let done = 0;
  try {
    const previews = await Promise.all(
      unique.map((recording) =>
        queue.add(
          async () => {
            const preview = await plan(recording);
            bar.show(++done / unique.length, `planned ${done} of ${unique.length}`);
            return preview;
          },
          { signal },
        ),
      ),
    );
    bar.clear();
    if (json) printJson(context, { datasetId, output: out, ...totalsOf(previews), recordings: previews });
    else printLines(context, ...describe(datasetId, out, previews));
    const refused = previews.some(({ outcome }) => outcome === 'refuse');
    if (refused || differing(previews).length > 0) process.exitCode = 1;
  } finally {
    queue.clear();
    bar.clear();
  }
}

function totalsOf(previews: readonly Preview[]) {
  const count = (outcome: Preview['outcome']) => previews.filter((each) => each.outcome === outcome).length;
  const rows = previews.reduce((sum, each) => sum + (each.outcome === 'convert' ? each.rows : 0), 0);
  return { convert: count('convert'), skip: count('skip'), refuse: count('refuse'), expectedRows: rows };
}

function describe(datasetId: string, out: string, previews: readonly Preview[]): string[] {
  const { convert, skip, refuse, expectedRows } = totalsOf(previews);
  return [
    ...featureLines(previews),
    ...previews.map(lineOf),
    '',
    `dataset ${datasetId} in ${out}: ${convert} to convert (about ${expectedRows} rows), ` +
      `${skip} converted before, ${refuse} refused; nothing was enqueued`,
  ];
}

function lineOf(preview: Preview): string {
  if (preview.outcome === 'refuse') return `refuse   ${failureOf(preview.source, preview.reason)}`;
  const size = `${preview.rows} rows${preview.episodes === 1 ? '' : ` in ${preview.episodes} episodes`}`;
  if (preview.outcome === 'skip') return `skip     ${preview.source}: converted before, ${size}`;
  const lost = preview.losses.map(({ what }) => `; lost: ${what}`).join('');
  const tasks = preview.tasks.map((task) => JSON.stringify(task)).join(', ');
  return `convert  ${preview.source}: about ${size}, ${tasks}${lost}`;
}

type Conversion = Extract<Preview, { outcome: 'convert' }>;

function conversions(previews: readonly Preview[]): Conversion[] {
  return previews.filter((each) => each.outcome === 'convert');
}

/** Recordings with other features than the first. */
function differing(previews: readonly Preview[]): Conversion[] {
  const [first, ...others] = conversions(previews);
  return others.filter((each) => featureText(each).join() !== featureText(first ?? each).join());
}

function featureText({ features }: Conversion): string[] {
  return features.map(({ key, dtype, shape, names }) => {
    const labels = names === null || dtype === 'video' || dtype === 'image' ? '' : ` ${names.join(', ')}`;
    return `  ${key}: ${dtype} [${shape.join(', ')}]${labels}`;
  });
}

/** The features, once for all recordings that agree. */
function featureLines(previews: readonly Preview[]): string[] {
  const [first] = conversions(previews);
  if (!first) return [];
  return [
    `features of ${first.source}:`,
    ...featureText(first),
    ...differing(previews).map(({ source }) => `  other features: ${source}`),
    '',
  ];
}
