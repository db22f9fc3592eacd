import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { Registry } from 'prom-client';
import { InputError, throwIfAborted, toError } from '../errors.ts';
import { createMetrics } from '../metrics/index.ts';
import { type Recording, recordingSchema } from '../queue/jobs.ts';
import { expandSources, isPattern } from '../storage/expand-sources.ts';
import { localError } from '../storage/local-errors.ts';
import { type CliContext, toUrl, UsageError } from './context.ts';
import { sourceSettings } from './settings.ts';

/**
 * The recordings that arguments name: files, globs and prefixes; `@file` a list, `-` (or `@-`) the list on standard
 * input. A line of a list is a source, or JSON `{"source", "task"?}`; `task` is that of recordings without one.
 */
export async function recordingsOf(
  words: readonly string[],
  task: string | undefined,
  context: CliContext,
): Promise<Recording[]> {
  const metrics = createMetrics(new Registry()).storage;
  const options = { ...sourceSettings(), metrics, cwd: process.cwd(), signal: context.signal };
  const recordings: Recording[] = [];
  const expand = async (source: string, own: { task?: string | undefined }) => {
    for (const { url } of await expandSources([source], options)) recordings.push({ source: url, ...own });
  };
  for (const word of words) {
    const list = word === '-' || word === '@-' ? '-' : word.startsWith('@') ? word.slice(1) : undefined;
    if (list === undefined) await expand(word, {});
    else {
      for await (const { source, ...own } of listed(list, context)) {
        // A list may be long: a single source is looked up when it is converted, not here.
        if (isPattern(source)) await expand(source, own);
        else recordings.push({ source: toUrl(source), ...own });
      }
    }
  }
  if (recordings.length === 0) throw new UsageError('expected at least one recording, found none');
  return recordings.map((recording) => (task === undefined ? recording : { task, ...recording }));
}

/** The lines of a list; `-` is standard input. */
async function* listed(path: string, context: CliContext): AsyncGenerator<Recording> {
  const name = path === '-' ? 'standard input' : path;
  const input = path === '-' ? process.stdin : createReadStream(path);
  const stop = () => input.destroy();
  context.signal.addEventListener('abort', stop, { once: true });
  let number = 0;
  try {
    for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
      number++;
      if (line.trim() !== '') yield recordingOf(line, `${name}, line ${number}`);
    }
  } catch (thrown) {
    if (thrown instanceof InputError) throw thrown;
    throw new UsageError(localError(thrown, 'read the list', name).message, { cause: thrown });
  } finally {
    context.signal.removeEventListener('abort', stop);
  }
  throwIfAborted(context.signal);
}

function recordingOf(line: string, where: string): Recording {
  let value: unknown = { source: line };
  // A pattern may begin with a brace as well, but not go on like JSON.
  if (/^\s*\{\s*["}]/.test(line)) {
    try {
      value = JSON.parse(line);
    } catch (thrown) {
      throw new UsageError(
        `${where}: expected a source or JSON {"source", "task"?}: ${toError(thrown).message}`,
        {
          cause: thrown,
        },
      );
    }
  }
  const parsed = recordingSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map(
    ({ path, message }) => `${path.length === 0 ? '' : `${path.join('.')}: `}${message}`,
  );
  throw new UsageError(`${where}: expected a source or JSON {"source", "task"?}: ${faults.join('; ')}`, {
    cause: parsed.error,
  });
}
