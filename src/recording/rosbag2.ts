import { InputError } from '../errors.ts';
import { bagInfoIn, parseBagInfo } from './bag-info.ts';
import type { BagInfo } from './bag-info.ts';
import { printable } from './compression.ts';
import type { Db3Recording } from './db3.ts';
import { JoinedRecording } from './joined.ts';
import type { Part } from './joined.ts';
import { openFile } from './open-file.ts';
import type { OpenedFile } from './open-file.ts';
import type { OpenOptions } from './open-options.ts';
import type { Loss, Recording, RecordingFiles } from './types.ts';
import { expandMessage } from './zstd.ts';

/** The description of a rosbag2 folder. */
export const BAG_INFO_FILE = 'metadata.yaml';

/** A description larger than this is none. */
const MAX_INFO_BYTES = 16n << 20n;

/** Parts of one recording follow each other closer than this; recordings of their own rarely do. */
const LARGEST_BREAK = 1_000_000_000n; // 1 s

/** Endings by which recordings are found in a folder that has no description. */
const RECORDING_ENDINGS = /\.(mcap|db3|bag)(\.zstd|\.zst)?$/;

/**
 * Opens a rosbag2 folder: the files that `metadata.yaml` lists, or without it the numbered parts in the folder, as one
 * recording. A listed file that is missing or cannot be opened is a loss while another can; with `recover: false`
 * it is an `InputError`. So are several recordings without a description that are not the parts of one.
 */
export async function openRosbag2(files: RecordingFiles, options: OpenOptions = {}): Promise<Recording> {
  const recover = options.recover ?? true;
  const losses: Loss[] = [];
  const info = await readInfo(files, recover, losses);
  const names = namesOf(files, info, recover, losses);
  const parts: Part[] = [];
  let failed: InputError | undefined;
  try {
    for (const name of names) {
      try {
        parts.push(await openPart(files, name, info, options, losses));
      } catch (thrown) {
        if (!(thrown instanceof InputError)) throw thrown;
        failed = new InputError(`${name}: ${thrown.message}`, { cause: thrown });
        if (!recover) throw failed;
        losses.push({ what: failed.message });
      }
    }
    if (parts.length === 0) {
      throw (
        failed ?? new InputError('expected MCAP files, bags or rosbag2 databases in the folder, found none')
      );
    }
    if (!files.files.includes(BAG_INFO_FILE)) assertOneRecording(parts);
  } catch (thrown) {
    for (const { recording } of parts) await recording.close();
    throw thrown;
  }
  const [first] = parts;
  const metadata = parts.flatMap(({ recording }) => recording.metadata);
  const known = metadata.some(({ name }) => name === 'custom_data');
  if (info && info.customData.size > 0 && !known)
    metadata.push({ name: 'custom_data', entries: info.customData });
  return new JoinedRecording(parts, {
    container: info || !first ? 'rosbag2' : first.recording.container,
    writtenBy: info?.distro ? `rosbag2, ${info.distro}` : (first?.recording.writtenBy ?? 'rosbag2'),
    metadata,
    losses,
    recover,
    counts: info?.counts,
  });
}

/** Opens one recording file on its own: a database may say itself that its messages are compressed. */
export async function openSingle(
  files: RecordingFiles,
  name: string,
  options: OpenOptions,
): Promise<Recording> {
  const losses: Loss[] = [];
  const part = await openPart(files, name, undefined, options, losses);
  const custom = isDatabase(part.recording) ? undefined : ownInfo(part.recording)?.customData;
  if (!part.expand && losses.length === 0 && !custom?.size) return part.recording;
  const { container, writtenBy } = part.recording;
  const metadata = [...part.recording.metadata];
  if (custom?.size) metadata.push({ name: 'custom_data', entries: custom });
  const recover = options.recover ?? true;
  return new JoinedRecording([part], { container, writtenBy, metadata, losses, recover });
}

async function openPart(
  files: RecordingFiles,
  name: string,
  info: BagInfo | undefined,
  options: OpenOptions,
  losses: Loss[],
): Promise<Part> {
  const log = `${name}-wal`;
  const wal = files.files.includes(log) ? await files.open(log) : undefined;
  let opened: OpenedFile;
  try {
    opened = await openFile(await files.open(name), options, wal);
  } finally {
    await wal?.close();
  }
  const { recording } = opened;
  const own = info ?? ownInfo(recording);
  if (own?.compressionMode === 'message' && own.compressionFormat !== 'zstd') {
    await recording.close();
    throw new InputError(
      `expected messages compressed with zstd, found '${printable(own.compressionFormat)}'`,
    );
  }
  losses.push(...opened.losses);
  return { name, recording, expand: own?.compressionMode === 'message' ? expandMessage : undefined };
}

/** Whether an opened file is a database; asked without loading SQLite, which only databases need. */
function isDatabase(recording: Recording): recording is Db3Recording {
  return recording.container === 'rosbag2';
}

/** What a file says of itself: databases in a table, MCAP files in their last metadata record of the recorder. */
function ownInfo(recording: Recording): BagInfo | undefined {
  if (isDatabase(recording)) return recording.info;
  const record = recording.metadata.findLast(({ name }) => name === 'rosbag2');
  return bagInfoIn(record?.entries.get('serialized_metadata'));
}

async function readInfo(
  files: RecordingFiles,
  recover: boolean,
  losses: Loss[],
): Promise<BagInfo | undefined> {
  if (!files.files.includes(BAG_INFO_FILE)) {
    if (!recover) throw new InputError(`expected a ${BAG_INFO_FILE} in the folder, found none`);
    losses.push({ what: `the folder has no ${BAG_INFO_FILE}; every recording in it is read` });
    return undefined;
  }
  const file = await files.open(BAG_INFO_FILE);
  try {
    const size = await file.size();
    if (size > MAX_INFO_BYTES) throw new InputError(`${BAG_INFO_FILE}: ${size} bytes are too many for one`);
    return parseBagInfo(new TextDecoder().decode(await file.read(0n, size)));
  } catch (thrown) {
    if (!(thrown instanceof InputError) || !recover) throw thrown;
    losses.push({ what: `${thrown.message}; every recording in the folder is read` });
    return undefined;
  } finally {
    await file.close();
  }
}

/** Whether the files of a folder without description are numbered and follow each other in time without a break. */
function assertOneRecording(parts: readonly Part[]): void {
  const numbered = parts.every(({ name }) => /\d\.[a-z]+\d?(\.zstd?)?$/i.test(name));
  const filled = parts
    .map(({ recording }) => recording)
    .filter(({ endTime }) => endTime > 0n)
    .toSorted((a, b) => (a.startTime < b.startTime ? -1 : 1));
  const isOne = filled.every((recording, i) => {
    const before = filled[i - 1];
    const pause = before ? recording.startTime - before.endTime : 0n;
    return pause <= LARGEST_BREAK && pause >= -LARGEST_BREAK;
  });
  if (parts.length === 1 || (numbered && isOne)) return;
  const names = parts.slice(0, 3).map(({ name }) => printable(name));
  throw new InputError(
    `expected one recording: a folder with a ${BAG_INFO_FILE}, or numbered parts that follow each other within a second; ` +
      `found ${parts.length} recordings (${names.join(', ')}${parts.length > 3 ? ', …' : ''}): give the files themselves`,
  );
}

/** Listed files as the folder has them: by their path, else by their last part (version 1 wrote the folder's name). */
function namesOf(
  files: RecordingFiles,
  info: BagInfo | undefined,
  recover: boolean,
  losses: Loss[],
): readonly string[] {
  if (!info || info.files.length === 0) return files.files.filter((name) => RECORDING_ENDINGS.test(name));
  const names: string[] = [];
  for (const listed of info.files) {
    const base = listed.split(/[/\\]/).at(-1) ?? '';
    const found = [listed, base, `${base}.zstd`, `${base}.zst`].find((name) => files.files.includes(name));
    if (found !== undefined) {
      names.push(found);
      continue;
    }
    const what = `${BAG_INFO_FILE} lists ${printable(listed)}, which is not in the folder`;
    if (!recover) throw new InputError(what);
    losses.push({ what });
  }
  return names;
}
