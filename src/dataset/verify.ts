import { InputError, toError } from '../errors.ts';
import { CheckList } from './check-list.ts';
import { INFO_PATH, STATS_PATH } from './layout.ts';
import { declaredVersion, readInfo } from './read-info.ts';
import { readWhole } from './read-tables.ts';
import { STATEMENTS, type StatementId } from './statements.ts';
import { type DeclaredEpisode, walkEpisodes } from './verify-episodes.ts';
import { verifyData } from './verify-data.ts';
import { verifyLayout } from './verify-layout.ts';
import { verifyStatsFile } from './verify-stats.ts';
import { verifyTasks } from './verify-tasks.ts';
import { verifyV21 } from './verify-v21.ts';
import { VideoUses, verifyVideos } from './verify-videos.ts';
import type { Check, DatasetFiles } from './types.ts';

/** Options of a verification. */
export type VerifyOptions = { readonly signal?: AbortSignal };

/**
 * Examines a LeRobot dataset (v3.0, or v2.1 when it says so) from its files alone: every row, every index, every video's frame table. Reads each
 * table once, one row group at a time; of videos only the index. Never throws for what it finds, only for stores that
 * do not answer. The ledger under `.roboflow/` may lie beside the dataset.
 */
export async function verifyDataset(files: DatasetFiles, options: VerifyOptions = {}): Promise<Check[]> {
  const infoBytes = await readWhole(files, INFO_PATH);
  if (infoBytes && declaredVersion(infoBytes) === 'v2.1') return verifyV21(files, infoBytes, options.signal);
  const list = new CheckList(STATEMENTS);
  await verifyLayout(files, list);
  const info = infoBytes && readInfo(infoBytes, list);
  if (!info) {
    if (!infoBytes) list.fault('info-keys', `${INFO_PATH} is missing: the dataset is not finished`);
    return list.checks;
  }
  list.expect('totals', info.episodes > 0 && info.frames > 0 && info.tasks > 0, () => 'the dataset is empty');
  const tasks = await verifyTasks(files, info, list);
  const uses = new VideoUses(info, list);
  const sampled = new Map<string, number>();
  const onEpisode = (episode: DeclaredEpisode) => {
    uses.add(episode);
    for (const [key, stats] of episode.stats)
      sampled.set(key, (sampled.get(key) ?? 0) + (stats.get('count')?.[0] ?? 0));
  };
  const episodes = walkEpisodes(files, info, list);
  try {
    const { signal } = options;
    const recounts = await verifyData({ files, info, tasks, episodes, list, signal, onEpisode });
    const stats = await readWhole(files, STATS_PATH);
    if (stats) verifyStatsFile(stats, info, recounts, sampled, list);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    list.fault(damagedTable(error), toError(error).message);
  } finally {
    await episodes.return(undefined);
  }
  await verifyVideos(files, info, uses, list);
  return list.checks;
}

/** Which check a table that cannot be read is a fault of. */
function damagedTable(error: InputError): StatementId {
  return error.message.startsWith('meta/episodes') ? 'episode-files' : 'columns';
}
