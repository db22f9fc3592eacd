import { isUtf8 } from 'node:buffer';
import { readFile } from 'node:fs/promises';
import { type DatasetConfig, parseDatasetConfig } from '../conversion/config.ts';
import { InputError } from '../errors.ts';
import { localError } from '../storage/local-errors.ts';
import { UsageError } from './context.ts';

/** Reads a dataset config from a file; whatever is wrong with it is wrong use. */
export async function readDatasetConfig(path: string): Promise<DatasetConfig> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (thrown) {
    throw new UsageError(localError(thrown, 'read the config', path).message, { cause: thrown });
  }
  // A recording in the place of its config would be hundreds of faults.
  if (!isUtf8(bytes) || bytes.includes(0)) {
    throw new UsageError(`${path}: expected a dataset config (YAML or JSON), found a file that is no text`);
  }
  try {
    return parseDatasetConfig(bytes.toString('utf8'), path);
  } catch (thrown) {
    if (thrown instanceof InputError) throw new UsageError(thrown.message, { cause: thrown });
    throw thrown;
  }
}
