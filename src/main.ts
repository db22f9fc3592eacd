import cluster from 'node:cluster';
import { startPrimary } from './cluster/primary.ts';
import { startWorker } from './cluster/worker.ts';
import { loadConfig, loadEnvFile } from './config.ts';
import { InputError, toError } from './errors.ts';

/** The service: the primary, or one of its workers. */
try {
  loadEnvFile();
  const config = loadConfig();
  if (cluster.isPrimary) await startPrimary(config);
  else await startWorker(config);
} catch (thrown) {
  const error = toError(thrown);
  process.stderr.write(
    `${error instanceof InputError ? `error: ${error.message}` : (error.stack ?? error.message)}\n`,
  );
  process.exit(1);
}
