import { stat } from 'node:fs/promises';
import { toError } from '../errors.ts';
import type { Feature } from '../frame/types.ts';
import { CheckList } from './check-list.ts';
import { videoFaults } from './check-video.ts';
import { DEFAULT_FEATURES } from './columns.ts';
import { openLocalFile } from './local-file.ts';
import { readMp4 } from './mp4.ts';
import { openParquet } from './parquet.ts';
import { STATEMENTS } from './statements.ts';
import { verifySchema } from './verify-schema.ts';
import type { Check, Written, WrittenFile } from './types.ts';

/** What is examined of one recording before it is uploaded. */
const WRITTEN_STATEMENTS = {
  columns: STATEMENTS.columns,
  types: STATEMENTS.types,
  'huggingface-footer': STATEMENTS['huggingface-footer'],
  rows: 'the table holds the rows of the episodes, and nothing else',
  'frame-index': STATEMENTS['frame-index'],
  'video-frames': 'every camera has a video with exactly one frame a row',
  'video-times': STATEMENTS['video-times'],
  files: 'the files are as long as when they were finished, to the byte',
};

type WrittenId = keyof typeof WRITTEN_STATEMENTS;

/**
 * Reads back what one recording added, before it is uploaded: rows equal frames for every camera, times are exact, the
 * columns are those planned, and the files are as long as they were. That their bytes are the ones that were hashed is
 * seen while they are sent.
 */
export async function verifyWritten(
  written: Written,
  features: readonly Feature[],
  fps: number,
): Promise<Check[]> {
  const list = new CheckList<WrittenId>(WRITTEN_STATEMENTS);
  const rows = written.parts.reduce((sum, part) => sum + part.frames, 0);
  const videos = features.filter((feature) => feature.dtype === 'video');
  if (videos.length === 0) list.skip('there are no videos', 'video-frames', 'video-times');
  const attempt = async (id: WrittenId, work: () => Promise<void>) => {
    list.examine(id);
    try {
      await work();
    } catch (error) {
      list.fault(id, toError(error).message);
    }
  };
  for (const file of written.files) {
    await attempt('files', async () => {
      const { size } = await stat(file.localPath);
      list.expect(
        'files',
        size === file.bytes,
        () => `${file.localPath} has ${size} bytes, ${file.bytes} were written`,
      );
    });
  }
  const table = written.files.find((file) => file.type === 'parquet');
  list.expect('rows', table !== undefined, () => 'there is no table');
  if (table) await attempt('rows', () => examineTable(table, written, features, fps, list));
  for (const { key, shape } of videos) {
    const files = written.files.filter((each) => each.feature === key);
    const covered = files.flatMap((file) => file.episode ?? written.parts.map((_, episode) => episode));
    const whole = JSON.stringify(covered) === JSON.stringify(written.parts.map((_, episode) => episode));
    list.expect('video-frames', whole, () => `${key} has videos of episodes [${covered.join(', ')}]`);
    for (const file of files) {
      const wanted = file.episode === undefined ? rows : (written.parts[file.episode]?.frames ?? 0);
      await attempt('video-frames', async () => {
        const source = await openLocalFile(file.localPath);
        try {
          const video = await readMp4(source);
          const [height = 0, width = 0] = shape;
          list.examine('video-times');
          for (const fault of videoFaults(video, { fps, width, height }))
            list.fault('video-times', `${key}: ${fault}`);
          list.expect(
            'video-frames',
            video.frames === wanted,
            () => `${key} has ${video.frames} frames for ${wanted} rows`,
          );
        } finally {
          await source.close();
        }
      });
    }
  }
  return list.checks;
}

async function examineTable(
  file: WrittenFile,
  written: Written,
  features: readonly Feature[],
  fps: number,
  list: CheckList<WrittenId>,
): Promise<void> {
  const source = await openLocalFile(file.localPath);
  try {
    const table = await openParquet(source, file.localPath);
    const declared = [...features, ...DEFAULT_FEATURES].map((each) => ({
      ...each,
      shape: [...each.shape],
      info: null,
    }));
    verifySchema(file.localPath, table, declared, list);
    list.examine('frame-index');
    const lengths = written.parts.map((part) => part.frames);
    let episode = 0;
    let row = 0;
    let seen = 0;
    for (let group = 0; group < table.metadata.row_groups.length; group += 1) {
      const rows = await table.rowGroup(group, ['timestamp', 'frame_index', 'episode_index', 'index']);
      const count = rows.get('index')?.length ?? 0;
      for (let i = 0; i < count; i += 1) {
        const number = (name: string) => Number(rows.get(name)?.[i]);
        const right =
          number('episode_index') === episode && number('index') === seen && number('frame_index') === row;
        list.expect(
          'rows',
          right,
          () =>
            `row ${seen} is frame ${number('frame_index')} of episode ${number('episode_index')}, expected ${row} of ${episode}`,
        );
        const exact = Math.fround(row / fps);
        list.expect(
          'frame-index',
          number('timestamp') === exact,
          () => `row ${seen} is at ${number('timestamp')} s, expected ${exact}`,
        );
        seen += 1;
        row += 1;
        if (row === lengths[episode]) {
          episode += 1;
          row = 0;
        }
      }
    }
    const total = lengths.reduce((sum, length) => sum + length, 0);
    list.expect('rows', seen === total, () => `${seen} rows for ${total} frames`);
  } finally {
    await source.close();
  }
}
