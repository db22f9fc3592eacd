#!/usr/bin/env node
import { loadBundle } from './cli/bundled.ts';
import type * as Program from './cli/program.ts';
import { beShortLived } from './cli/short-lived.ts';

/** The service is a family of processes that finds its files where they are; other commands should begin at once. */
const short = process.argv[2] !== 'start';
if (short) beShortLived();
const bundle = short ? loadBundle<typeof Program>() : undefined;
const { runProgram } = bundle?.exports ?? (await import('./cli/program.ts'));
await runProgram(startService);
if (process.argv[2] === 'convert' && process.exitCode === undefined) bundle?.keep();

async function startService(): Promise<void> {
  const [{ startPrimary }, { settings }] = await Promise.all([
    import('./cluster/primary.ts'),
    import('./cli/settings.ts'),
  ]);
  await startPrimary(settings());
}
