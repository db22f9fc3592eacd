import { NOT_EXAMINED } from '../dataset/check-list.ts';
import type { Check } from '../dataset/types.ts';
import { verify } from '../library.ts';
import { type CliContext, paint, printJson, printLines } from './context.ts';
import { sourceSettings } from './settings.ts';

/** Verifies a dataset where it lies and prints every check. Sets exit code 1 when one failed. */
export async function verifyThere(
  dataset: string,
  options: { readonly json?: boolean },
  context: CliContext,
): Promise<void> {
  const { ok, checks } = await verify(dataset, { ...sourceSettings(), signal: context.signal });
  if (options.json) printJson(context, { ok, checks });
  else printLines(context, ...describe(dataset, checks, ok, context));
  if (!ok) process.exitCode = 1;
}

function describe(dataset: string, checks: readonly Check[], ok: boolean, context: CliContext): string[] {
  const failed = checks.filter((check) => !check.ok).length;
  const mark = (good: boolean) =>
    good ? paint(context.out, 'green', 'ok    ') : paint(context.out, 'red', 'FAILED');
  const unknown = checks.filter(({ message }) => message === NOT_EXAMINED);
  return [
    ...checks
      .filter((check) => !unknown.includes(check))
      .map((check) => `${mark(check.ok)}  ${check.id.padEnd(6)} ${check.message}`),
    ...(unknown.length > 0 ? [`${mark(false)}  ${unknown.length} more: ${NOT_EXAMINED}`] : []),
    '',
    ok
      ? `${dataset}: all ${checks.length} checks passed`
      : `${dataset}: ${failed} of ${checks.length} checks failed`,
  ];
}
