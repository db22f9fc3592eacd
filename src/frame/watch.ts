import type { Clock, FrameConfig } from './types.ts';

/** A topic whose messages say something about episodes: where they are cut, what the task is, how they ended. */
export type Watch = {
  readonly role: 'split' | 'task' | 'success';
  readonly topic: string;
  readonly field: string;
  readonly clock: Clock;
};

/** The topics that a config reads beside its features. */
export function watchesOf(config: FrameConfig): Watch[] {
  const watches: Watch[] = [];
  const add = (role: Watch['role'], from: { topic: string; field: string; clock?: Clock | undefined }) =>
    watches.push({ role, topic: from.topic, field: from.field, clock: from.clock ?? config.clock });
  const { split } = config.episodes;
  if (typeof split === 'object' && 'topic' in split) add('split', split);
  if (typeof config.task === 'object' && 'topic' in config.task) add('task', config.task);
  for (const setting of Object.values(config.features)) {
    if ('derive' in setting && setting.derive === 'success' && 'topic' in setting.from)
      add('success', setting.from);
  }
  return watches;
}
