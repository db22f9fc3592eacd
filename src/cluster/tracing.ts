import { type Config, secretsOf } from '../config.ts';
import { version } from '../conversion/version.ts';
import { createLog } from '../log.ts';
import { startTracing, type Tracing } from '../tracing.ts';

/** A receiver that is away fails every second; the log says so this often at most. */
const REPEAT_MS = 60_000;

/** Tracing of this process when the environment names a receiver; `instance` tells the processes of a pod apart. */
export async function tracingOf(config: Config, instance: string): Promise<Tracing | undefined> {
  const endpoint = config.OTEL_EXPORTER_OTLP_ENDPOINT;
  if (endpoint === undefined) return undefined;
  const log = createLog({ level: config.LOG_LEVEL, format: config.LOG_FORMAT, secrets: secretsOf(config) });
  let saidAt = Number.NEGATIVE_INFINITY;
  return await startTracing({
    endpoint,
    version,
    instance,
    onError: (reason) => {
      if (performance.now() - saidAt < REPEAT_MS) return;
      saidAt = performance.now();
      log.warn({ instance, reason: reason.slice(0, 500) }, 'traces are not delivered');
    },
  });
}
