import { Command } from 'commander';
import type { Check } from '../dataset/types.ts';
import { verify } from '../library.ts';
import { type CliContext, paint, printJson, printLines } from './context.ts';
import { sourceSettings } from './settings.ts';

/** `roboflow verify DATASET_URL`: re-reads a dataset and states every rule it keeps or breaks. */
export function verifyCommand(context: CliContext): Command {
  return new Command('verify')
    .description('re-read a published dataset and check every rule of its format')
    .argument('<dataset>', 'folder or URL of the dataset')
    .option('--json', 'machine-readable output: {ok, checks: [{id, ok, message}]}')
    .addHelpText(
      'after',
      '\nExamples:\n  $ roboflow verify demo/dataset\n  $ roboflow verify s3://datasets/bottles --json',
    )
    .action(async (dataset: string, options: { json?: boolean }) => {
      const { ok, checks } = await verify(dataset, { ...sourceSettings(), signal: context.signal });
      if (options.json) printJson(context, { ok, checks });
      else printLines(context, ...describe(dataset, checks, ok, context));
      if (!ok) process.exitCode = 1;
    });
}

function describe(dataset: string, checks: readonly Check[], ok: boolean, context: CliContext): string[] {
  const failed = checks.filter((check) => !check.ok).length;
  const mark = (good: boolean) =>
    good ? paint(context.out, 'green', 'ok    ') : paint(context.out, 'red', 'FAILED');
  return [
    ...checks.map((check) => `${mark(check.ok)}  ${check.id.padEnd(6)} ${check.message}`),
    '',
    ok
      ? `${dataset}: all ${checks.length} checks passed`
      : `${dataset}: ${failed} of ${checks.length} checks failed`,
  ];
}
