import { throwIfAborted } from '../errors.ts';
import { extentOfRanges, TimelineScan } from '../frame/scan.ts';
import type { TimelineExtent } from '../frame/types.ts';
import type { Recording } from '../recording/types.ts';
import type { DatasetConfig } from './config.ts';
import { type ConversionPlan, located } from './plan.ts';

/**
 * Finds where each source begins and ends on its clock, which fixes the timeline before the first row is made. Log
 * times come from the indexes when the recording has them; other clocks take one reading of the stamps.
 */
export async function scanTimeline(
  recording: Recording,
  plan: ConversionPlan,
  config: DatasetConfig,
  name: string,
  signal: AbortSignal,
): Promise<TimelineExtent> {
  const { mapping, readers, topics } = plan;
  if (mapping.sources.every((source) => source.clock === 'log')) {
    const ranges = await recording.topicRanges();
    if (ranges) return located(name, () => extentOfRanges(mapping, config, ranges));
  }
  const scan = new TimelineScan(mapping, config);
  for await (const message of recording.messages({ topics, signal })) {
    throwIfAborted(signal);
    for (const source of mapping.sources) {
      if (source.topic !== message.channel.topic) continue;
      scan.add(source.index, readers.time(message, source.clock), message.logTime);
    }
  }
  return located(name, () => scan.result());
}
