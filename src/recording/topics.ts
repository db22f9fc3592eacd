import type { Channel, TopicRange } from './types.ts';

/** The channels of the given topics; all of them without topics. */
export function selectChannels(
  channels: readonly Channel[],
  topics: ReadonlySet<string> | undefined,
): ReadonlySet<Channel> {
  return new Set(topics ? channels.filter((channel) => topics.has(channel.topic)) : channels);
}

/** Ranges by channel id as ranges by topic: several channels may share one. */
export function byTopic(
  channels: ReadonlyMap<number, Channel>,
  ranges: ReadonlyMap<number, TopicRange>,
): Map<string, TopicRange> {
  const topics = new Map<string, TopicRange>();
  for (const [id, range] of ranges) {
    const topic = channels.get(id)?.topic;
    if (topic === undefined) continue;
    const known = topics.get(topic);
    const { first, last, count } = range;
    topics.set(topic, known ? joinRanges(known, range) : { first, last, count });
  }
  return topics;
}

/** One range over both. */
export function joinRanges(a: TopicRange, b: TopicRange): TopicRange {
  return {
    first: a.first < b.first ? a.first : b.first,
    last: a.last > b.last ? a.last : b.last,
    count: a.count + b.count,
  };
}
