import { Command } from 'commander';
import { Registry } from 'prom-client';
import type { Check } from '../dataset/types.ts';
import { verifyDataset } from '../dataset/verify.ts';
import { createMetrics } from '../metrics/index.ts';
import { openStorage } from '../storage/open.ts';
import { type CliContext, printJson, printLines, toUrl } from './context.ts';
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
      const metrics = createMetrics(new Registry()).storage;
      const storage = openStorage(toUrl(dataset), { ...sourceSettings(), metrics, role: 'source' });
      const checks = await verifyDataset(storage, { signal: context.signal });
      const ok = checks.every((check) => check.ok);
      if (options.json) printJson(context, { ok, checks });
      else printLines(context, ...describe(dataset, checks, ok));
      if (!ok) process.exitCode = 1;
    });
}

function describe(dataset: string, checks: readonly Check[], ok: boolean): string[] {
  const failed = checks.filter((check) => !check.ok).length;
  return [
    ...checks.map((check) => `${check.ok ? 'ok    ' : 'FAILED'}  ${check.id.padEnd(6)} ${check.message}`),
    '',
    ok
      ? `${dataset}: all ${checks.length} checks passed`
      : `${dataset}: ${failed} of ${checks.length} checks failed`,
  ];
}
