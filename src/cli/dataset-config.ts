import { readFile } from 'node:fs/promises';
import { type DatasetConfig, parseDatasetConfig } from '../conversion/config.ts';
import { InputError, toError } from '../errors.ts';
import { UsageError } from './context.ts';

/** Reads a dataset config from a file; whatever is wrong with it is wrong use. */
export async function readDatasetConfig(path: string): Promise<DatasetConfig> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (thrown) {
    throw new UsageError(`cannot read the config ${path}: ${toError(thrown).message}`, { cause: thrown });
  }
  try {
    return parseDatasetConfig(text, path);
  } catch (thrown) {
    if (thrown instanceof InputError) throw new UsageError(thrown.message, { cause: thrown });
    throw thrown;
  }
}
