import { InputError, throwIfAborted } from '../errors.ts';
import { EpisodeScan, rowsWithin } from '../frame/episode.ts';
import { extentOfRanges, TimelineScan } from '../frame/scan.ts';
import type { EpisodeSpan, Source, TimelineExtent } from '../frame/types.ts';
import type { Message, Recording } from '../recording/types.ts';
import type { ChannelReaders } from './channels.ts';
import type { DatasetConfig } from './config.ts';
import { type ConversionPlan, located } from './plan.ts';
import { Slices } from './slices.ts';

/** What the first pass finds: where the timeline lies, and the episodes on it with their tasks. */
export type Timeline = { readonly extent: TimelineExtent; readonly spans: readonly EpisodeSpan[] };

/**
 * Finds where each source begins and ends on its clock, which fixes the timeline before the first row is made, and the
 * episodes. Log times come from the indexes when the recording has them; other clocks, gaps and idle ends take one
 * reading of the messages.
 */
export async function scanTimeline(
  recording: Recording,
  plan: ConversionPlan,
  config: DatasetConfig,
  name: string,
  signal: AbortSignal,
): Promise<Timeline> {
  const { mapping, readers, facts } = plan;
  const episodes = new EpisodeScan(mapping, config);
  const shared = mapping.sources.some((source) => source.kind === 'vector' && source.shared);
  const byLog = mapping.sources.every((source) => source.clock === 'log');
  const ranges = byLog && !shared && !episodes.needsSamples ? await recording.topicRanges() : undefined;
  const scan = ranges ? undefined : new TimelineScan(mapping, config);
  const topics = new Set([...(scan ? plan.topics : []), ...episodes.watches.map(({ topic }) => topic)]);
  if (topics.size > 0) {
    const slices = new Slices();
    for await (const message of recording.messages({ topics, signal })) {
      if (slices.over) await slices.next();
      throwIfAborted(signal);
      const { topic } = message.channel;
      for (const source of scan ? mapping.sources : []) {
        if (source.topic !== topic) continue;
        const time = timeOf(source, message, readers);
        if (time === undefined || isForeign(source, message, readers)) {
          scan?.addApart(source.index);
          continue;
        }
        if (!scan?.add(source.index, time, message.logTime)) continue;
        const wanted = episodes.values.has(source.index);
        episodes.sample(source.index, time, wanted ? valueOf(source, message, readers) : undefined);
      }
      for (const watch of episodes.watches) {
        if (watch.topic !== topic) continue;
        located(name, () =>
          episodes.watch(watch, readers.time(message, watch.clock), readers.decode(message)),
        );
      }
    }
  }
  return located(name, () => {
    const extent = ranges ? extentOfRanges(mapping, config, ranges) : scan?.result();
    if (!extent) throw new TypeError('neither ranges nor a scan');
    const spans = episodes.result(extent, facts);
    return { extent: { ...extent, expectedRows: rowsWithin(extent, config, spans) }, spans };
  });
}

/** A message's time; undefined when it is too damaged to tell, which the second pass counts. */
function timeOf(source: Source, message: Message, readers: ChannelReaders): bigint | undefined {
  try {
    return readers.time(message, source.clock);
  } catch (thrown) {
    if (thrown instanceof InputError) return undefined;
    throw thrown;
  }
}

/** Whether a message on a shared topic is another publisher's. */
function isForeign(source: Source, message: Message, readers: ChannelReaders): boolean {
  if (source.kind !== 'vector' || !source.shared) return false;
  try {
    return source.read(readers.decode(message)) === undefined;
  } catch (thrown) {
    if (thrown instanceof InputError) return false;
    throw thrown;
  }
}

/** The vector of a message; undefined when it does not decode, which the second pass counts. */
function valueOf(source: Source, message: Message, readers: ChannelReaders): Float64Array | undefined {
  if (source.kind !== 'vector') return undefined;
  try {
    return source.read(readers.decode(message));
  } catch (thrown) {
    if (thrown instanceof InputError) return undefined;
    throw thrown;
  }
}
