import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { workerFlags } from '../../src/cluster/fleet.ts';
import type { ChildResult } from '../helpers/convert-child.ts';

/** What one conversion took, in a process with the flags of a worker. CPU is that of the process, without ffmpeg. */
export type ConversionCost = ChildResult;

/** Converts recordings one after the other in a process of their own. */
export async function convertInChild(
  config: object,
  out: string,
  recordings: readonly string[],
): Promise<ConversionCost[]> {
  const child = fileURLToPath(new URL('../helpers/convert-child.js', import.meta.url));
  const args = [...process.execArgv, ...workerFlags, child, JSON.stringify(config), out, ...recordings];
  const { stdout } = await promisify(execFile)(process.execPath, args);
  return stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as ChildResult);
}
