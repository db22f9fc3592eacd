import { InputError } from '../errors.ts';
import type { OpenOptions } from './open-options.ts';
import { openRosbag2, openSingle } from './rosbag2.ts';
import type { Recording, RecordingFiles } from './types.ts';

/**
 * Opens a recording; its container is told by its first bytes, never by its name. Throws `InputError` when it is
 * none, or damaged under `recover: false`; errors of the source are passed on. The caller closes the recording.
 */
export async function openRecording(files: RecordingFiles, options: OpenOptions = {}): Promise<Recording> {
  try {
    if (files.folder) return await openRosbag2(files, options);
    const [only] = files.files;
    if (only === undefined) throw new InputError('expected a recording file, found none');
    return await openSingle(files, only, options);
  } catch (thrown) {
    if (!(thrown instanceof InputError)) throw thrown;
    throw new InputError(`${files.name}: ${thrown.message}`, { cause: thrown });
  }
}
