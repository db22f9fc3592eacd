import type { AlignedFrame, Feature } from '../frame/types.ts';
import { cellNumbers, featureCell } from './cells.ts';
import { dataColumns, featureColumn, huggingfaceFooter, isCamera, valueLength } from './columns.ts';
import { openLocalFile } from './local-file.ts';
import { openParquet, ParquetFile } from './parquet.ts';
import { statChannels, VectorMoments, VectorQuantiles } from './vector-stats.ts';
import type { FeatureStats } from './types.ts';

/** Values and rows in one row group at most: keeps encoding below about 0.1 s, and memory flat. */
const GROUP_VALUES = 1 << 18;
const GROUP_ROWS = 1 << 11;
const GROUP_BYTES = 32 << 20;

/** One episode of the table. */
type StagedEpisode = {
  readonly first: number;
  frames: number;
  readonly moments: ReadonlyMap<string, VectorMoments>;
};

/**
 * The rows of one recording on their way to the dataset: a Parquet file with the dataset's data columns, one row group
 * an episode (more for long ones). `episode_index`, `index` and `task_index` count within the recording.
 */
export class StagedTable {
  readonly #path: string;
  readonly #fps: number;
  readonly #columns: readonly Feature[];
  readonly #stats: readonly Feature[];
  readonly #file: ParquetFile;
  readonly #groupRows: number;
  readonly #episodes: StagedEpisode[] = [];
  readonly #rounded = new Map<string, number>();
  #open: StagedEpisode | undefined;
  #rows = 0;
  #buffered = 0;
  #bufferedBytes = 0;
  #buffer = new Map<string, unknown[]>();

  private constructor(path: string, fps: number, features: readonly Feature[], file: ParquetFile) {
    this.#path = path;
    this.#fps = fps;
    this.#columns = dataColumns(features);
    this.#stats = this.#columns.filter((feature) => feature.dtype !== 'string' && !isCamera(feature));
    this.#file = file;
    const values = this.#columns.reduce(
      (sum, feature) => sum + (isCamera(feature) ? 1 : valueLength(feature)),
      0,
    );
    this.#groupRows = Math.max(1, Math.min(GROUP_ROWS, Math.floor(GROUP_VALUES / values)));
  }

  static async create(path: string, fps: number, features: readonly Feature[]): Promise<StagedTable> {
    const columns = dataColumns(features);
    const footer = { huggingface: huggingfaceFooter(columns) };
    return new StagedTable(
      path,
      fps,
      features,
      await ParquetFile.create(path, columns.map(featureColumn), footer),
    );
  }

  /** Rows added so far. */
  get rows(): number {
    return this.#rows;
  }

  /** By feature, integers that its column rounds. */
  get rounded(): ReadonlyMap<string, number> {
    return this.#rounded;
  }

  /** Appends one row of the open episode; `task` is the number of its task within the recording. */
  async addRow(frame: AlignedFrame, task: number, pictures: ReadonlyMap<string, Uint8Array>): Promise<void> {
    this.#open ??= {
      first: this.#rows,
      frames: 0,
      moments: new Map(this.#stats.map((feature) => [feature.key, new VectorMoments(statChannels(feature))])),
    };
    const episode = this.#open;
    const row = episode.frames;
    const own: Readonly<Record<string, number>> = {
      timestamp: row / this.#fps,
      frame_index: row,
      episode_index: this.#episodes.length,
      index: this.#rows,
      task_index: task,
    };
    const where = () => `at frame ${row} of episode ${this.#episodes.length}`;
    for (const feature of this.#columns) {
      const { key } = feature;
      let column = this.#buffer.get(key);
      if (!column) this.#buffer.set(key, (column = []));
      if (isCamera(feature)) {
        const bytes = pictures.get(key) as Uint8Array;
        // Both formats begin with bytes of their own: 0xff for JPEG, 0x89 for PNG.
        const ending = bytes[0] === 0xff ? 'jpg' : 'png';
        column.push({ bytes, path: `frame-${String(row).padStart(6, '0')}.${ending}` });
        this.#bufferedBytes += bytes.length;
        continue;
      }
      const number = own[key];
      const value = number === undefined ? frame.values.get(key) : Float64Array.of(number);
      const cell = featureCell(feature, value, where);
      column.push(cell.stored);
      if (cell.rounded > 0) this.#rounded.set(key, (this.#rounded.get(key) ?? 0) + cell.rounded);
      episode.moments.get(key)?.add(cell.numbers);
    }
    episode.frames += 1;
    this.#rows += 1;
    this.#buffered += 1;
    if (this.#buffered >= this.#groupRows || this.#bufferedBytes >= GROUP_BYTES) await this.#flush();
  }

  /** Closes the open episode and returns its place in the table. */
  async endEpisode(): Promise<{ first: number; frames: number }> {
    const episode = this.#open;
    if (!episode) throw new Error('an episode needs at least one frame');
    await this.#flush();
    this.#episodes.push(episode);
    this.#open = undefined;
    return { first: episode.first, frames: episode.frames };
  }

  /** Completes the file and reads it back once for the quantiles; returns each episode's statistics by feature. */
  async finish(): Promise<Map<string, FeatureStats>[]> {
    if (this.#open) throw new Error('the last episode was not ended');
    await this.#file.finish();
    const passes = this.#episodes.map(
      ({ moments }) => new Map([...moments].map(([key, each]) => [key, new VectorQuantiles(each.moments)])),
    );
    const file = await openLocalFile(this.#path);
    try {
      const table = await openParquet(file, this.#path);
      const wanted = this.#stats.map((feature) => feature.key);
      for (let group = 0; group < table.metadata.row_groups.length; group += 1) {
        const rows = await table.rowGroup(group, wanted);
        const episodes = rows.get('episode_index') ?? [];
        for (const [key, column] of rows) {
          for (let i = 0; i < column.length; i += 1) {
            passes[Number(episodes[i])]?.get(key)?.add(cellNumbers(column[i]));
          }
        }
      }
    } finally {
      await file.close();
    }
    return this.#episodes.map(({ moments }, i) => {
      const pass = passes[i];
      const stats = [...moments].flatMap(([key, each]) => {
        const quantiles = pass?.get(key);
        return quantiles ? [[key, quantiles.stats(each)] as const] : [];
      });
      return new Map(stats);
    });
  }

  async abort(): Promise<void> {
    await this.#file.abort();
  }

  async #flush(): Promise<void> {
    if (this.#buffered === 0) return;
    const rows = this.#buffer;
    this.#buffer = new Map();
    this.#buffered = 0;
    this.#bufferedBytes = 0;
    await this.#file.write(rows);
  }
}
