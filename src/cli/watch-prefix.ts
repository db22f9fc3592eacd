import { InputError } from '../errors.ts';
import { watchRequestSchema, type WatchStatus } from '../queue/watches.ts';
import { type CliContext, printJson, printLines, toUrl, UsageError } from './context.ts';
import { readDatasetConfig } from './dataset-config.ts';
import { accepted, withProducer } from './producer.ts';

type Options = {
  dataset?: string;
  config?: string;
  out?: string;
  every?: number;
  priority?: number;
  end?: string;
  json?: boolean;
};

/** Begins, lists or ends watches of prefixes. */
export async function watchPrefix(
  prefix: string | undefined,
  options: Options,
  context: CliContext,
): Promise<void> {
  await withProducer(context, async (producer) => {
    if (options.end !== undefined) {
      if (!(await producer.unwatch(options.end))) throw new InputError(`no watch with the id ${options.end}`);
      if (options.json) printJson(context, { watchId: options.end });
      else printLines(context, `watch ${options.end} ended`);
      return;
    }
    if (prefix !== undefined) {
      const watch = accepted(await producer.watch(await requestOf(prefix, options)));
      if (options.json) printJson(context, watch);
      else printLines(context, line(watch));
      return;
    }
    const items = await producer.watches();
    if (options.json) printJson(context, { items });
    else printLines(context, ...(items.length === 0 ? ['nothing is watched'] : items.map(line)));
  });
}

async function requestOf(prefix: string, { dataset, config, out, every, priority }: Options) {
  if (dataset === undefined || config === undefined || out === undefined) {
    throw new UsageError('expected --dataset, --config and --out with a prefix');
  }
  const parsed = watchRequestSchema.safeParse({
    datasetId: dataset,
    output: toUrl(out),
    config: await readDatasetConfig(config),
    prefix,
    ...(every === undefined ? {} : { everySeconds: every }),
    options: priority === undefined ? {} : { priority },
  });
  if (parsed.success) return parsed.data;
  throw new UsageError(
    parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('\n  '),
  );
}

function line(watch: WatchStatus): string {
  const { watchId, prefix, datasetId, everySeconds, taken, growing, reason } = watch;
  const counts = `${taken} taken, ${growing} may still grow`;
  return `${watchId}: ${prefix} → ${datasetId}, every ${everySeconds} s; ${counts}${reason ? `; last look: ${reason}` : ''}`;
}
