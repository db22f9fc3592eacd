import cluster from 'node:cluster';
import { loadConfig, loadEnvFile } from './config.ts';
import { InputError, toError } from './errors.ts';

/** The service: the primary, or one of its workers; neither loads what only the other needs. */
try {
  loadEnvFile();
  const config = loadConfig();
  if (cluster.isPrimary) await (await import('./cluster/primary.ts')).startPrimary(config);
  else await (await import('./cluster/worker.ts')).startWorker(config);
} catch (thrown) {
  const error = toError(thrown);
  process.stderr.write(
    `${error instanceof InputError ? `error: ${error.message}` : (error.stack ?? error.message)}\n`,
  );
  process.exit(1);
}
