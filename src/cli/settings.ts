import { type Config, loadConfig, s3Settings } from '../config.ts';
import { InputError } from '../errors.ts';
import type { S3Settings } from '../storage/types.ts';
import { UsageError } from './context.ts';

/** The environment, read when a command needs it; a wrong value is wrong use. */
export function settings(): Config {
  try {
    return loadConfig();
  } catch (thrown) {
    if (thrown instanceof InputError) throw new UsageError(thrown.message, { cause: thrown });
    throw thrown;
  }
}

/** How source stores are reached. */
export function sourceSettings(): { s3: S3Settings } {
  return { s3: s3Settings(settings()) };
}
