import { createHash } from 'node:crypto';
import { z } from 'zod';
import { InputError } from '../errors.ts';
import { refusal } from '../frame/faults.ts';
import type { Mark } from '../frame/episode.ts';
import { faultsOf } from './config-faults.ts';
import { readYaml, sentence } from './config-text.ts';
import { configHash } from './config.ts';
import type { ConversionContext, ConversionRequest } from './types.ts';
import { parentOf, resolveLocation } from '../storage/location.ts';
import { openStorage } from '../storage/open.ts';

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
  return template.replaceAll('{name}', () => base.replace(/(\.(mcap|bag|db3)\.zstd?|\.[^.]+)$/i, ''));
}

/** A marks file as it was read. */
export type MarksFile = { readonly name: string; readonly text: string };

/** Larger marks files are taken for something else. */
const maxMarksBytes = 1024 * 1024;

/** Reads the marks beside a recording, when the config splits by marks. Throws `InputError` when there are none. */
export async function readMarks(
  request: ConversionRequest,
  context: Pick<ConversionContext, 'metrics' | 'signal' | 'sources'>,
): Promise<MarksFile | undefined> {
  const { split } = request.config.episodes;
  if (typeof split === 'string' || !('marks' in split)) return undefined;
  const { metrics, signal } = context;
  const at = parentOf(resolveLocation(request.source));
  const name = marksName(split.marks, at?.name ?? '');
  const found =
    at && openStorage(at.parent, { ...context.sources, metrics: metrics.storage, role: 'source' });
  const info = await found?.head(name, { signal });
  if (!found || !info) {
    throw new InputError(
      `${request.source}: expected the marks of its episodes beside it in ${name}, found no such file`,
    );
  }
  if (info.size > maxMarksBytes) {
    throw new InputError(`${name}: expected at most ${maxMarksBytes} bytes of marks, found ${info.size}`);
  }
  const object = await found.open(name, { signal });
  try {
    const bytes = await object.read(0n, await object.size());
    return { name, text: new TextDecoder().decode(bytes) };
  } finally {
    await object.close();
  }
}

/** Names everything that decides about an episode beside the recording: config, task and marks. */
export function conversionHash({ config, task }: ConversionRequest, marks: MarksFile | undefined): string {
  const hash = configHash(config);
  if (task === undefined && marks === undefined) return hash;
  return createHash('sha256')
    .update(JSON.stringify([hash, task ?? null, marks?.text ?? null]))
    .digest('hex');
}
