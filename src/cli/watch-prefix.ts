import { Command } from 'commander';
import { InputError } from '../errors.ts';
import { watchRequestSchema, type WatchStatus } from '../queue/watches.ts';
import { type CliContext, printJson, printLines, toUrl, UsageError, wholeNumber } from './context.ts';
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

/** `roboflow watch PREFIX --dataset ID …`: the service enqueues what appears there; without a prefix, lists watches. */
export function watchCommand(context: CliContext): Command {
  return new Command('watch')
    .description('let the service enqueue recordings as they appear below a prefix, each when it is complete')
    .argument('[prefix]', 'folder or URL prefix; left out: list what is watched')
    .option('-d, --dataset <id>', 'id of the dataset')
    .option('-c, --config <file>', 'dataset config (YAML or JSON)')
    .option('-o, --out <url>', 'folder or URL of the dataset')
    .option('--every <seconds>', 'time between two looks', wholeNumber(1, 86_400))
    .option('-p, --priority <n>', '0 is taken first, 9 last', wholeNumber(0, 9))
    .option('--end <id>', 'end a watch')
    .option('--json', 'machine-readable output')
    .addHelpText(
      'after',
      '\nExamples:\n  $ roboflow watch s3://raw/ --dataset bottles --config robot.yaml --out s3://datasets/bottles\n' +
        '  $ roboflow watch\n  $ roboflow watch --end bottles.0f3a5c7e9b1d',
    )
    .action(async (prefix: string | undefined, options: Options) => {
      await withProducer(context, async (producer) => {
        if (options.end !== undefined) {
          if (!(await producer.unwatch(options.end)))
            throw new InputError(`no watch with the id ${options.end}`);
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
