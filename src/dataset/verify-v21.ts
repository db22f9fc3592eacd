import { z } from 'zod';
import { InputError, toError } from '../errors.ts';
import { cellNumbers } from './cells.ts';
import { CheckList } from './check-list.ts';
import {
  INFO_PATH,
  V21_EPISODES_PATH,
  V21_STATS_PATH,
  V21_TASKS_PATH,
  v21DataPath,
  v21VideoPath,
} from './layout.ts';
import { type DeclaredInfo, hasStats, isPicture, isVideo, readV21Info } from './read-info.ts';
import { readWhole } from './read-tables.ts';
import type { StatName } from './stats-form.ts';
import { STATEMENTS, type StatementId } from './statements.ts';
import { verifyData } from './verify-data.ts';
import type { DeclaredEpisode } from './verify-episodes.ts';
import { checkPictureStats } from './verify-stats.ts';
import { VideoUses, verifyVideos } from './verify-videos.ts';
import type { Check, DatasetFiles } from './types.ts';

const V21_STATS = ['min', 'max', 'mean', 'std', 'count'] as const satisfies readonly StatName[];

const episodeLine = z.object({
  episode_index: z.int(),
  tasks: z.array(z.string().min(1)).min(1),
  length: z.int().positive(),
});
const taskLine = z.object({ task_index: z.int(), task: z.string() });
const statsLine = z.object({
  episode_index: z.int(),
  stats: z.record(z.string(), z.record(z.string(), z.unknown())),
});

/** Statements that only v3.0 makes. */
const PACKED: StatementId[] = ['episode-files', 'stats', 'stats-exact', 'quantiles', 'depth', 'file-order'];

/** Examines a LeRobot v2.1 dataset from its files alone; the counterpart of `verifyDataset`. */
export async function verifyV21(
  files: DatasetFiles,
  infoBytes: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<Check[]> {
  const list = new CheckList(STATEMENTS);
  list.skip('it is a statement about v3.0', ...PACKED);
  list.skip('v2.1 has no ledger of final files', 'ledger');
  const info = readV21Info(infoBytes, list);
  if (!info) return list.checks;
  const tasks = await readLines(files, V21_TASKS_PATH, taskLine, list, 'tasks');
  const seen = new Set<string>();
  tasks.forEach(({ task_index: index, task }, i) => {
    const unique = !seen.has(task);
    seen.add(task);
    list.expect('tasks', index === i && unique, () => `line ${i} is task ${index} "${task}"`);
  });
  list.expect(
    'totals',
    tasks.length === info.tasks,
    () => `${tasks.length} tasks, info.json says ${info.tasks}`,
  );
  const lines = await readLines(files, V21_EPISODES_PATH, episodeLine, list, 'episodes');
  const stats = await readLines(files, V21_STATS_PATH, statsLine, list, 'episode-stats');
  list.expect(
    'totals',
    lines.length === info.episodes,
    () => `${lines.length} episodes, info.json says ${info.episodes}`,
  );
  await verifyNames(files, info, lines.length, list);
  const uses = new VideoUses(info, list);
  if (info.features.some(isVideo)) list.examine('video-columns');
  else list.skip('there are no videos', 'video-columns');
  list.examine('data-pointers', 'episode-tasks', 'camera-stats');
  const episodes = declaredEpisodes(info, lines, stats, list);
  try {
    const texts = tasks.map((each) => each.task);
    await verifyData({
      files,
      info,
      tasks: texts,
      episodes,
      list,
      signal,
      onEpisode: (each) => uses.add(each),
    });
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    list.fault('columns', toError(error).message);
  }
  await verifyVideos(files, info, uses, list);
  return list.checks;
}

async function* declaredEpisodes(
  info: DeclaredInfo,
  lines: readonly z.output<typeof episodeLine>[],
  stats: readonly z.output<typeof statsLine>[],
  list: CheckList<StatementId>,
): AsyncGenerator<DeclaredEpisode> {
  let from = 0;
  for (const [index, { episode_index: own, tasks, length }] of lines.entries()) {
    list.expect('episodes', own === index, () => `line ${index} of ${V21_EPISODES_PATH} is episode ${own}`);
    const declared = stats[index];
    const where = `episode ${index}`;
    const right = declared?.episode_index === index;
    list.expect('episode-stats', right, () => `${where} has no line of its own in ${V21_STATS_PATH}`);
    const flat = info.features.filter(hasStats).map((feature) => {
      const { key } = feature;
      const found = declared?.stats[key] ?? {};
      const values = new Map(V21_STATS.map((name) => [name as StatName, cellNumbers(found[name] ?? [])]));
      for (const name of V21_STATS) {
        const numbers = values.get(name) ?? [];
        const shape = isPicture(feature) && name !== 'count' ? numbers.map((each) => [[each]]) : numbers;
        const shaped = numbers.length > 0 && JSON.stringify(shape) === JSON.stringify(found[name]);
        list.expect(
          'episode-stats',
          shaped,
          () => `${where}: ${name} of ${key} is missing or has another shape`,
        );
      }
      if (isPicture(feature)) checkPictureStats(feature, values, list, where);
      return [key, values] as const;
    });
    const videos = info.features.filter(isVideo).map(({ key }) => {
      return { key, path: v21VideoPath(key, index), from: 0, to: length / info.fps };
    });
    const data = v21DataPath(index);
    yield { index, tasks, length, from, to: from + length, data, videos, stats: new Map(flat) };
    from += length;
  }
}

/** Only the files of the episodes lie under data/, meta/ and videos/. */
async function verifyNames(
  files: DatasetFiles,
  info: DeclaredInfo,
  episodes: number,
  list: CheckList<StatementId>,
): Promise<void> {
  const expected = new Set<string>([INFO_PATH, V21_EPISODES_PATH, V21_TASKS_PATH, V21_STATS_PATH]);
  for (let episode = 0; episode < episodes; episode += 1) {
    expected.add(v21DataPath(episode));
    for (const { key } of info.features.filter(isVideo)) expected.add(v21VideoPath(key, episode));
  }
  list.examine('layout');
  for await (const { key } of files.list('')) {
    if (key.startsWith('.roboflow/') || !key.includes('/')) continue;
    list.expect('layout', expected.delete(key), () => `${key} does not belong to a dataset`);
  }
  for (const path of expected) list.fault('layout', `${path} is missing`);
}

/** The lines of a file of JSON lines, each of `schema`. */
async function readLines<T>(
  files: DatasetFiles,
  path: string,
  schema: z.ZodType<T>,
  list: CheckList<StatementId>,
  id: StatementId,
): Promise<T[]> {
  const bytes = await readWhole(files, path);
  list.expect(id, bytes !== undefined, () => `${path} is missing`);
  const lines = new TextDecoder().decode(bytes).split('\n');
  return lines.flatMap((line, i) => {
    if (line === '') return [];
    try {
      return [schema.parse(JSON.parse(line))];
    } catch {
      list.fault(id, `line ${i + 1} of ${path} cannot be read`);
      return [];
    }
  });
}
