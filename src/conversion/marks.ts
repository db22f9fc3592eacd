import { z } from 'zod';
import { refusal } from '../frame/faults.ts';
import type { Mark } from '../frame/episode.ts';
import { faultsOf } from './config-faults.ts';
import { readYaml, sentence } from './config-text.ts';

const seconds = z.number().min(0);

const marksFile = z
  .array(
    z
      .strictObject({
        /** Seconds after the first message of the recording. */
        start: seconds,
        end: seconds,
        task: z.string().min(1).optional(),
        success: z.boolean().optional(),
      })
      .refine(({ start, end }) => end > start, { path: ['end'], message: 'expected an end after the start' }),
  )
  .min(1);

/**
 * The marks of one recording from its JSON or YAML text: a list of `{start, end, task?, success?}`, in seconds after
 * `startTime` (ns, the recording's first message). Throws one `InputError` with every fault, its line and column.
 */
export function parseMarks(text: string, name: string, startTime: bigint): Mark[] {
  const { value, place } = readYaml(text, name);
  const result = marksFile.safeParse(value);
  if (!result.success) {
    const faults = faultsOf(marksFile, result.error, value);
    throw refusal(
      name,
      faults.map((fault) => sentence(fault, place)),
      { cause: result.error },
    );
  }
  const at = (after: number) => startTime + BigInt(Math.round(after * 1e9));
  return result.data.map(({ start, end, task, success }) => ({
    start: at(start),
    end: at(end),
    ...(task !== undefined && { task }),
    ...(success !== undefined && { success }),
  }));
}

/** The name of a recording's marks file: `{name}` is its base name without the ending. */
export function marksName(template: string, source: string): string {
  const base = source.replace(/\/+$/, '').split('/').at(-1) ?? source;
  return template.replaceAll('{name}', () => base.replace(/(\.mcap\.zstd|\.[^.]+)$/, ''));
}
