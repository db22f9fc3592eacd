import type { ChildResult } from '../helpers/convert-child.ts';
import { RunningWorker } from './running-worker.ts';

/** What one conversion took, in a process with the flags of a worker. CPU is that of the process, without ffmpeg. */
export type ConversionCost = ChildResult;

/** Converts recordings one after the other in a process of their own. */
export async function convertInChild(
  config: object,
  out: string,
  recordings: readonly string[],
): Promise<ConversionCost[]> {
  const worker = RunningWorker.start(config, out);
  const costs: ConversionCost[] = [];
  try {
    for (const recording of recordings) costs.push(await worker.convert(recording));
    return costs;
  } finally {
    await worker.end();
  }
}
