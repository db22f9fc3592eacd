import { InputError } from '../errors.ts';
import { placesOf, valueAt } from '../frame/field-path.ts';
import { resolveMapping, topicsOf } from '../frame/mapping.ts';
import type { Mapping } from '../frame/types.ts';
import type { Recording } from '../recording/types.ts';
import { ChannelReaders } from './channels.ts';
import type { DatasetConfig } from './config.ts';
import { firstMessage, probeTopics } from './probe.ts';

/** How one recording will be converted: every feature resolved to topics, fields and shapes. */
export type ConversionPlan = {
  readonly mapping: Mapping;
  readonly readers: ChannelReaders;
  /** Topics whose messages are read while converting. */
  readonly topics: ReadonlySet<string>;
  readonly task: string;
};

/**
 * Resolves the config against a recording from headers, indexes and first messages. Whatever is missing or unsupported
 * is an `InputError` here, before any work.
 */
export async function planConversion(
  recording: Recording,
  request: { readonly config: DatasetConfig; readonly task?: string; readonly name: string },
  signal: AbortSignal,
): Promise<ConversionPlan> {
  const { config, name } = request;
  const wanted = topicsOf(config);
  const readers = new ChannelReaders(recording, wanted, name);
  const probes = await probeTopics(recording, wanted, readers, signal);
  const mapping = located(name, () => resolveMapping(config, probes));
  const task = request.task ?? (await findTask(recording, config, readers, name, signal));
  const topics = new Set(mapping.sources.map((source) => source.topic));
  return { mapping, readers, topics, task };
}

async function findTask(
  recording: Recording,
  config: DatasetConfig,
  readers: ChannelReaders,
  name: string,
  signal: AbortSignal,
): Promise<string> {
  const { task } = config;
  if (typeof task === 'string') return task;
  if (task === undefined) {
    throw new InputError(
      `${name}: no task text; give one with the recording (task, --task) or in the config ` +
        `(task: "…", task: {topic, field} or task: {metadata: name.key})`,
    );
  }
  if ('metadata' in task) return taskFromMetadata(recording, task.metadata, name);
  const message = await firstMessage(recording, task.topic, signal);
  if (!message) throw new InputError(`${name}: the task comes from ${task.topic}, which has no message`);
  const decoded = readers.decode(message);
  const text = valueAt(decoded, located(name, () => placesOf(task.field, decoded))[0]?.steps ?? []);
  if (typeof text === 'string' && text.trim() !== '') return text;
  throw new InputError(
    `${name}: expected a text in ${task.field} of ${task.topic}, found ${JSON.stringify(text)}`,
  );
}

function taskFromMetadata(recording: Recording, path: string, name: string): string {
  const found: string[] = [];
  for (const record of recording.metadata) {
    for (const [key, value] of record.entries) {
      const full = `${record.name}.${key}`;
      if (full === path && value.trim() !== '') return value;
      found.push(full);
    }
  }
  const there = found.length === 0 ? 'there is no metadata' : `there is ${found.slice(0, 10).join(', ')}`;
  throw new InputError(`${name}: the task comes from the metadata "${path}"; ${there}`);
}

/** Puts the recording's name before the sentence of an `InputError`. */
export function located<T>(name: string, work: () => T): T {
  try {
    return work();
  } catch (thrown) {
    if (!(thrown instanceof InputError)) throw thrown;
    throw new InputError(`${name}: ${thrown.message}`, { cause: thrown });
  }
}
