import { throwIfAborted } from '../errors.ts';
import { cellNumbers } from './cells.ts';
import type { CheckList } from './check-list.ts';
import { loadSharp } from './load-sharp.ts';
import type { ColumnValues } from './parquet.ts';
import { type DeclaredFeature, type DeclaredInfo, hasStats, isDepth, isPicture } from './read-info.ts';
import { type TableGroup, walkTables } from './read-tables.ts';
import type { StatementId } from './statements.ts';
import type { DeclaredEpisode } from './verify-episodes.ts';
import { verifySchema } from './verify-schema.ts';
import { checkRecount } from './verify-stats.ts';
import { VectorMoments } from './vector-stats.ts';
import type { DatasetFiles } from './types.ts';

/** What the data pass is given. */
export type DataInput = {
  readonly files: DatasetFiles;
  readonly info: DeclaredInfo;
  readonly tasks: readonly string[];
  /** Rows of the episodes table, pulled as their data comes by. */
  readonly episodes: AsyncIterator<DeclaredEpisode>;
  readonly list: CheckList<StatementId>;
  readonly signal?: AbortSignal | undefined;
  /** Told each episode of the table, in order. */
  readonly onEpisode: (episode: DeclaredEpisode) => void;
};

/** Walks all rows once, episode by episode; returns a recount of every numeric feature over the dataset. */
export async function verifyData(input: DataInput): Promise<ReadonlyMap<string, VectorMoments>> {
  const { files, info, list } = input;
  list.examine('index', 'frame-index', 'task-index', 'row-groups');
  if (info.features.some((feature) => feature.dtype === 'image')) list.examine('images');
  else list.skip('there are no stored images', 'images');
  const pass = new DataPass(input);
  for await (const group of walkTables(files, 'data/', list, 'columns')) {
    throwIfAborted(input.signal);
    if (group.group === 0) verifySchema(group.path, group.table, info.features, list);
    await pass.add(group);
  }
  await pass.finish();
  list.expect(
    'totals',
    pass.rows === info.frames,
    () => `${pass.rows} rows, info.json says ${info.frames} frames`,
  );
  return pass.recounts;
}

class DataPass {
  readonly #input: DataInput;
  readonly #numeric: readonly DeclaredFeature[];
  readonly recounts: ReadonlyMap<string, VectorMoments>;
  rows = 0;
  #row = 0;
  #episode: DeclaredEpisode | undefined;
  #number = -1;
  #file = '';
  #own = new Map<string, VectorMoments>();
  #tasks = new Set<string>();

  constructor(input: DataInput) {
    this.#input = input;
    this.#numeric = input.info.features.filter((feature) => hasStats(feature) && !isPicture(feature));
    this.recounts = this.#emptyMoments();
  }

  async add({ path, read, group }: TableGroup): Promise<void> {
    const { info, list, tasks } = this.#input;
    const columns = await read();
    const cell = (key: string, i: number): unknown => columns.get(key)?.[i];
    const count = Math.max(0, ...[...columns.values()].map((column) => column.length));
    list.expect('row-groups', count > 0, () => `${path}: row group ${group} is empty`);
    for (let i = 0; i < count; i += 1) {
      const where = `${path} row ${i} of group ${group}`;
      const episode = Number(cell('episode_index', i));
      if (episode !== this.#number) {
        await this.#endEpisode();
        list.expect(
          'index',
          episode === this.#number + 1,
          () => `${where}: episode ${episode} follows ${this.#number}`,
        );
        await this.#startEpisode(episode, path);
      }
      list.expect('index', this.#file === path, () => `${where}: episode ${episode} began in ${this.#file}`);
      const index = Number(cell('index', i));
      list.expect('index', index === this.rows, () => `${where}: index is ${index}, expected ${this.rows}`);
      const frame = Number(cell('frame_index', i));
      list.expect(
        'frame-index',
        frame === this.#row,
        () => `${where}: frame_index is ${frame}, expected ${this.#row}`,
      );
      const timestamp = cell('timestamp', i);
      const exact = Math.fround(this.#row / info.fps);
      list.expect(
        'frame-index',
        timestamp === exact,
        () => `${where}: timestamp is ${String(timestamp)}, expected ${exact}`,
      );
      const task = tasks[Number(cell('task_index', i))];
      list.expect(
        'task-index',
        task !== undefined,
        () => `${where}: task_index is ${String(cell('task_index', i))}`,
      );
      if (task !== undefined) this.#tasks.add(task);
      await this.#addValues(columns, i, where);
      this.rows += 1;
      this.#row += 1;
    }
  }

  /** Ends the pass: episodes of the table without rows are faults. */
  async finish(): Promise<void> {
    await this.#endEpisode();
    for (let rest = await this.#input.episodes.next(); !rest.done; rest = await this.#input.episodes.next()) {
      this.#input.onEpisode(rest.value);
      this.#input.list.fault('episodes', `episode ${rest.value.index} has no rows`);
    }
  }

  /** Examines the values of one row and adds them to the recounts. */
  async #addValues(columns: ReadonlyMap<string, ColumnValues>, row: number, where: string): Promise<void> {
    const { info, list } = this.#input;
    for (const feature of info.features) {
      const { key, dtype, shape } = feature;
      const column = columns.get(key);
      if (!column || dtype === 'video') continue;
      const value: unknown = column[row];
      if (value === null || value === undefined) {
        list.fault('types', `${where}: ${key} is null`);
      } else if (dtype === 'image') {
        const fault = await pictureFault(feature, value);
        if (fault !== undefined) list.fault('images', `${where}: ${key} ${fault}`);
      } else if (hasStats(feature)) {
        const numbers = cellNumbers(value);
        const length = shape.reduce((product, side) => product * side, 1);
        const right = numbers.length === length;
        list.expect(
          'types',
          right,
          () => `${where}: ${key} has ${numbers.length} elements, expected ${length}`,
        );
        list.expect('types', numbers.every(Number.isFinite), () => `${where}: ${key} holds NaN or infinity`);
        this.#own.get(key)?.add(numbers);
        this.recounts.get(key)?.add(numbers);
      }
    }
  }

  async #startEpisode(number: number, path: string): Promise<void> {
    const { episodes, list, onEpisode } = this.#input;
    const next = await episodes.next();
    this.#episode = next.done ? undefined : next.value;
    if (next.done) list.fault('episodes', `episode ${number} of ${path} is not in the episodes table`);
    else onEpisode(next.value);
    this.#number = number;
    this.#file = path;
    this.#row = 0;
    this.#own = this.#emptyMoments();
    this.#tasks = new Set();
  }

  async #endEpisode(): Promise<void> {
    const { list } = this.#input;
    const episode = this.#episode;
    if (!episode) return;
    const where = `episode ${episode.index}`;
    list.expect(
      'episodes',
      episode.length === this.#row,
      () => `${where} has length ${episode.length} and ${this.#row} rows`,
    );
    list.expect(
      'data-pointers',
      episode.data === this.#file,
      () => `${where} points to ${episode.data}, its rows are in ${this.#file}`,
    );
    const same =
      episode.tasks.length === this.#tasks.size && episode.tasks.every((task) => this.#tasks.has(task));
    list.expect(
      'episode-tasks',
      same,
      () => `${where} has tasks "${episode.tasks.join('", "')}", its rows "${[...this.#tasks].join('", "')}"`,
    );
    for (const feature of this.#numeric) {
      const stats = episode.stats.get(feature.key);
      const recount = this.#own.get(feature.key);
      if (!stats || !recount || recount.rows === 0) continue;
      checkRecount(feature, stats, recount, (fault) => list.fault('episode-stats', `${where}: ${fault}`));
    }
    this.#episode = undefined;
  }

  #emptyMoments(): Map<string, VectorMoments> {
    return new Map(
      this.#numeric.map((feature) => [feature.key, new VectorMoments(feature.shape.at(-1) ?? 1)]),
    );
  }
}

/** What is wrong with a stored picture, from its header. */
async function pictureFault(feature: DeclaredFeature, value: unknown): Promise<string | undefined> {
  const { bytes } = value as { bytes?: Uint8Array };
  if (!(bytes instanceof Uint8Array)) return 'has no bytes';
  const [height, width] = feature.shape;
  const sharp = await loadSharp();
  try {
    const found = await sharp(bytes).metadata();
    const formats = isDepth(feature) ? ['tiff'] : ['png', 'jpeg'];
    const channels = isDepth(feature) ? 1 : 3;
    const right =
      formats.includes(found.format) &&
      found.width === width &&
      found.height === height &&
      found.channels === channels &&
      (isDepth(feature) || (found.depth === 'uchar' && !found.isPalette));
    const size = `${found.width}x${found.height}`;
    return right ? undefined : `is ${found.format} ${size} of ${found.channels} channels (${found.depth})`;
  } catch (error) {
    return `does not decode: ${error instanceof Error ? error.message : 'unknown'}`;
  }
}
