import { InputError } from '../errors.ts';
import { resolveMapping, topicsOf } from '../frame/mapping.ts';
import type { EpisodeFacts } from '../frame/episode.ts';
import type { Mapping, Probe } from '../frame/types.ts';
import type { Recording } from '../recording/types.ts';
import { ChannelReaders } from './channels.ts';
import type { DatasetConfig } from './config.ts';
import { parseMarks, type MarksFile } from './marks.ts';
import { probeTopics } from './probe.ts';

/** How one recording will be converted: every feature resolved to topics, fields and shapes. */
export type ConversionPlan = {
  readonly mapping: Mapping;
  readonly readers: ChannelReaders;
  /** Topics whose messages are read while converting. */
  readonly topics: ReadonlySet<string>;
  /** Video features whose pictures are coded in the recording, and how. */
  readonly coded: ReadonlyMap<string, { readonly topic: string; readonly format: 'h264' | 'h265' }>;
  /** What is known of its episodes beside the messages. */
  readonly facts: EpisodeFacts;
};

/**
 * Resolves the config against a recording from headers, indexes and first messages. Whatever is missing or unsupported
 * is an `InputError` here, before any work.
 */
export async function planConversion(
  recording: Recording,
  request: {
    readonly config: DatasetConfig;
    readonly task?: string;
    readonly name: string;
    readonly marks?: MarksFile | undefined;
  },
  signal: AbortSignal,
): Promise<ConversionPlan> {
  const { config, name } = request;
  const wanted = topicsOf(config);
  const readers = new ChannelReaders(recording, wanted, name);
  const probes = await probeTopics(recording, wanted, readers, config, signal);
  const all = recording.channels.map((channel) => channel.topic);
  const taskGiven = request.task !== undefined;
  const mapping = resolveMapping(config, probes, { recording: name, topics: all, taskGiven });
  const facts = {
    task: request.task ?? findTask(recording, config, name),
    success: findSuccess(recording, config, name),
    marks: request.marks && parseMarks(request.marks.text, request.marks.name, recording.startTime),
  };
  const topics = new Set(mapping.sources.map((source) => source.topic));
  return { mapping, readers, topics, facts, coded: codedFeatures(mapping, probes) };
}

function codedFeatures(
  { features, sources }: Mapping,
  probes: ReadonlyMap<string, Probe>,
): ConversionPlan['coded'] {
  const found = sources.flatMap(({ kind, feature, topic }) => {
    const format = kind === 'picture' ? probes.get(topic)?.picture?.coded : undefined;
    const isVideo = features.some(({ key, dtype }) => key === feature && dtype === 'video');
    return format && isVideo ? [[feature, { topic, format }] as const] : [];
  });
  return new Map(found);
}

/** The task of the whole recording; undefined when a topic or the marks tell it. */
function findTask(recording: Recording, config: DatasetConfig, name: string): string | undefined {
  const { task } = config;
  if (typeof task === 'string') return task;
  if (task === undefined) {
    const { split } = config.episodes;
    if (typeof split === 'object' && 'marks' in split) return undefined;
    throw new InputError(
      `${name}: no task text; give one with the recording (task, --task) or in the config ` +
        `(task: "…", task: {topic, field} or task: {metadata: name.key})`,
    );
  }
  return 'metadata' in task ? metadataText(recording, 'task', task.metadata, name) : undefined;
}

/** Whether the recording succeeded, where the config takes that from metadata. */
function findSuccess(recording: Recording, config: DatasetConfig, name: string): boolean | undefined {
  for (const setting of Object.values(config.features)) {
    if (!('derive' in setting) || setting.derive !== 'success' || !('metadata' in setting.from)) continue;
    const text = metadataText(recording, 'success', setting.from.metadata, name).trim().toLowerCase();
    if (['true', 'yes', '1', 'success'].includes(text)) return true;
    if (['false', 'no', '0', 'failure'].includes(text)) return false;
    throw new InputError(
      `${name}: expected true or false in the metadata "${setting.from.metadata}", found "${text}"`,
    );
  }
  return undefined;
}

function metadataText(recording: Recording, what: string, path: string, name: string): string {
  const found: string[] = [];
  for (const record of recording.metadata) {
    for (const [key, value] of record.entries) {
      const full = `${record.name}.${key}`;
      if (full === path && value.trim() !== '') return value;
      found.push(full);
    }
  }
  const there = found.length === 0 ? 'there is no metadata' : `there is ${found.slice(0, 10).join(', ')}`;
  throw new InputError(`${name}: the ${what} comes from the metadata "${path}"; ${there}`);
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
