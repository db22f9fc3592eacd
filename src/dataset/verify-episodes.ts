import { cellNumbers } from './cells.ts';
import type { CheckList } from './check-list.ts';
import { STAT_NAMES, type StatName } from './stats-form.ts';
import { type DeclaredFeature, type DeclaredInfo, hasStats, isPicture, isVideo } from './read-info.ts';
import { walkTables } from './read-tables.ts';
import type { StatementId } from './statements.ts';
import { checkPictureStats, checkQuantileOrder } from './verify-stats.ts';
import type { DatasetFiles } from './types.ts';

/** One row of the episodes table as the data pass needs it. */
export type DeclaredEpisode = {
  readonly index: number;
  readonly tasks: readonly string[];
  readonly length: number;
  readonly from: number;
  readonly to: number;
  readonly data: string;
  /** By video feature: file name and times. */
  readonly videos: readonly {
    readonly key: string;
    readonly path: string;
    readonly from: number;
    readonly to: number;
  }[];
  /** By feature: each statistic, flattened. */
  readonly stats: ReadonlyMap<string, ReadonlyMap<StatName, number[]>>;
};

const three = (value: unknown) => String(value).padStart(3, '0');

/** The episodes in row order; what can be said of a row alone is examined here. */
export async function* walkEpisodes(
  files: DatasetFiles,
  info: DeclaredInfo,
  list: CheckList<StatementId>,
): AsyncGenerator<DeclaredEpisode> {
  list.examine(
    'episodes',
    'episode-files',
    'episode-stats',
    'episode-tasks',
    'data-pointers',
    'quantiles',
    'camera-stats',
  );
  const videos = info.features.filter(isVideo);
  if (videos.length > 0) list.examine('video-columns');
  else list.skip('there are no videos', 'video-columns');
  const statFeatures = info.features.filter(hasStats);
  let schema: string | undefined;
  let next = 0;
  let from = 0;
  for await (const { path, chunk, number, table, group, read } of walkTables(
    files,
    'meta/episodes/',
    list,
    'episode-files',
  )) {
    const own = JSON.stringify(table.metadata.schema.map(({ name, type }) => [name, type]));
    schema ??= own;
    if (group === 0)
      list.expect('episode-files', schema === own, () => `${path} has other columns than the first file`);
    const rows = await read();
    const rowCount = rows.get('episode_index')?.length ?? 0;
    if (rowCount === 0) list.fault('episodes', `${path} has a row group without episode_index`);
    const cell = (name: string, row: number) => rows.get(name)?.[row];
    for (let row = 0; row < rowCount; row += 1) {
      const where = `episode ${next} (${path})`;
      const integer = (name: string, id: StatementId) => {
        const value = cell(name, row);
        list.expect(id, typeof value === 'bigint', () => `${where}: ${name} is no int64`);
        return Number(value);
      };
      const index = integer('episode_index', 'episodes');
      const length = integer('length', 'episodes');
      const start = integer('dataset_from_index', 'episodes');
      const end = integer('dataset_to_index', 'episodes');
      list.expect('episodes', index === next, () => `${where}: episode_index is ${index}`);
      list.expect(
        'episodes',
        start === from && end === start + length && length > 0,
        () => `${where}: rows ${start} to ${end} for ${length} frames, expected to start at ${from}`,
      );
      const self = [
        integer('meta/episodes/chunk_index', 'episode-files'),
        integer('meta/episodes/file_index', 'episode-files'),
      ];
      list.expect(
        'episode-files',
        self[0] === chunk && self[1] === number,
        () => `${where} says it is in file ${self.join('/')}`,
      );
      const tasks = cell('tasks', row);
      const texts = Array.isArray(tasks) ? tasks.map(String) : [];
      list.expect('episode-tasks', texts.length > 0, () => `${where} has no tasks`);
      const stats = new Map(
        statFeatures.map((feature) => [
          feature.key,
          readStats(feature, (name) => cell(name, row), list, where),
        ]),
      );
      const pointers = videos.map(({ key }) => {
        const place = (name: string) => integer(`videos/${key}/${name}`, 'video-columns');
        const time = (name: string) => {
          const value = cell(`videos/${key}/${name}`, row);
          list.expect(
            'video-columns',
            typeof value === 'number',
            () => `${where}: videos/${key}/${name} is no double`,
          );
          return Number(value);
        };
        const video = `videos/${key}/chunk-${three(place('chunk_index'))}/file-${three(place('file_index'))}.mp4`;
        return { key, path: video, from: time('from_timestamp'), to: time('to_timestamp') };
      });
      const data = `data/chunk-${three(integer('data/chunk_index', 'data-pointers'))}/file-${three(integer('data/file_index', 'data-pointers'))}.parquet`;
      yield { index, tasks: texts, length, from: start, to: end, data, videos: pointers, stats };
      next += 1;
      from = end;
    }
  }
  list.expect(
    'totals',
    next === info.episodes && next > 0,
    () => `${next} episodes, info.json says ${info.episodes}`,
  );
}

function readStats(
  feature: DeclaredFeature,
  cell: (name: string) => unknown,
  list: CheckList<StatementId>,
  where: string,
): ReadonlyMap<StatName, number[]> {
  const stats = new Map<StatName, number[]>();
  for (const name of STAT_NAMES) {
    const value = cell(`stats/${feature.key}/${name}`);
    const nested = name !== 'count' && isPicture(feature) ? 3 : 1;
    let depth = 0;
    for (let inner = value; Array.isArray(inner); inner = inner[0]) depth += 1;
    list.expect(
      'episode-stats',
      depth === nested,
      () => `${where}: stats/${feature.key}/${name} is missing or has another shape`,
    );
    stats.set(name, cellNumbers(value ?? []));
  }
  checkQuantileOrder(feature, stats, list, where);
  if (isPicture(feature)) checkPictureStats(feature, stats, list, where);
  return stats;
}
