import { throwIfAborted } from '../errors.ts';
import type { Loss, Picture, Recording } from '../recording/types.ts';
import { type TopicInspection, TopicScan } from './inspect-topic.ts';
import type { RecordingFacts } from './suggest.ts';

/** What a recording holds, topic by topic; times in seconds. */
export type Inspection = {
  readonly name: string;
  readonly container: Recording['container'];
  readonly writtenBy: string;
  readonly bytes: number;
  readonly messages: number;
  /** ISO time of the first message's log time, and seconds from the first to the last. */
  readonly start: string | null;
  readonly seconds: number;
  readonly topics: readonly TopicInspection[];
  readonly metadata: readonly { readonly name: string; readonly entries: Readonly<Record<string, string>> }[];
  readonly losses: readonly Loss[];
};

/** What an inspection found: its description, what a config is suggested from, and the first picture of every camera. */
export type Inspected = {
  readonly inspection: Inspection;
  readonly facts: RecordingFacts;
  /** By topic. */
  readonly pictures: ReadonlyMap<string, Picture>;
};

/**
 * Reads a recording once and describes every topic. A topic that cannot be decoded is described all the same, with
 * the reason in `refused`.
 */
export async function inspectRecording(
  source: { readonly name: string; readonly recording: Recording; readonly info: { readonly size: number } },
  signal: AbortSignal,
): Promise<Inspected> {
  const { recording } = source;
  const topics = new Map<string, TopicScan>();
  for (const channel of recording.channels) {
    if (!topics.has(channel.topic)) topics.set(channel.topic, new TopicScan(channel));
  }
  let messages = 0;
  for await (const message of recording.messages({ signal })) {
    throwIfAborted(signal);
    messages++;
    topics.get(message.channel.topic)?.add(message);
  }
  const start = recording.startTime;
  const inspected = [...topics.values()].toSorted((a, b) => (a.topic < b.topic ? -1 : 1));
  const inspection: Inspection = {
    name: source.name,
    container: recording.container,
    writtenBy: recording.writtenBy,
    bytes: source.info.size,
    messages,
    start: messages === 0 ? null : new Date(Number(start / 1_000_000n)).toISOString(),
    seconds: Number(recording.endTime - start) / 1e9,
    topics: inspected.map((topic) => topic.result(start)),
    metadata: recording.metadata.map(({ name, entries }) => ({ name, entries: Object.fromEntries(entries) })),
    losses: recording.losses,
  };
  return {
    inspection,
    facts: { ...inspection, topics: inspected.flatMap((topic) => topic.facts(start) ?? []) },
    pictures: new Map(
      inspected.flatMap(({ topic, picture }) => (picture ? [[topic, picture] as const] : [])),
    ),
  };
}
