import { spawnSync } from 'node:child_process';
import type { ExecutionContext } from 'ava';

/** What promtool said. */
export type PromtoolAnswer = { readonly code: number | null; readonly output: string };

/**
 * Runs `promtool`; undefined, said in the log of the test, where it is not installed (Debian: `prometheus`).
 */
export function promtool(
  t: ExecutionContext,
  args: readonly string[],
  options: { input?: string; cwd?: string } = {},
): PromtoolAnswer | undefined {
  const ran = spawnSync('promtool', args, { encoding: 'utf8', ...options });
  if (ran.error !== undefined && 'code' in ran.error && ran.error.code === 'ENOENT') {
    t.log('promtool is not installed: this part is skipped');
    t.pass();
    return undefined;
  }
  if (ran.error !== undefined) throw ran.error;
  return { code: ran.status, output: ran.stdout + ran.stderr };
}
