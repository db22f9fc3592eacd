import type { FrameConfig, TopicField, Watch } from './types.ts';

/** A topic to watch, before the recording has told whether its messages carry a stamp. */
export type WatchSetting = TopicField & { readonly role: Watch['role'] };

/** The topics that a config reads beside its features. */
export function watchesOf(config: FrameConfig): WatchSetting[] {
  const watches: WatchSetting[] = [];
  const { split } = config.episodes;
  if (typeof split === 'object' && 'topic' in split) watches.push({ role: 'split', ...split });
  if (typeof config.task === 'object' && 'topic' in config.task)
    watches.push({ role: 'task', ...config.task });
  for (const setting of Object.values(config.features)) {
    if ('derive' in setting && setting.derive === 'success' && 'topic' in setting.from) {
      watches.push({ role: 'success', ...setting.from });
    }
  }
  return watches;
}
