import { Registry } from 'prom-client';
import { createLog } from '../log.ts';
import { createMetrics } from '../metrics/index.ts';
import { InputError, StorageError } from '../errors.ts';
import { Producer } from '../queue/producer.ts';
import type { Refusal } from '../queue/refusals.ts';
import { assertInsideRoots, resolveLocation } from '../storage/location.ts';
import { openStorage } from '../storage/open.ts';
import type { CliContext } from './context.ts';
import { settings, sourceSettings } from './settings.ts';

/** Runs `work` with a connection to the queues of this environment, and closes it. */
export async function withProducer<T>(
  context: CliContext,
  work: (producer: Producer) => Promise<T>,
): Promise<T> {
  const config = settings();
  const metrics = createMetrics(new Registry()).storage;
  const check = locationChecks();
  const producer = new Producer({
    redis: { url: config.REDIS_URL },
    prefix: config.QUEUE_PREFIX,
    log: createLog({ level: 'error', format: 'pretty', destination: context.err }),
    checkSource: check.source,
    checkPrefix: check.prefix,
    checkOutput: check.output,
    openOutput: (url) =>
      openStorage(url, {
        ...sourceSettings(),
        metrics,
        role: 'destination',
        roots: config.DESTINATION_ROOTS,
      }),
  });
  try {
    return await work(producer);
  } catch (thrown) {
    // Only here it is known which Redis, and that a person asks.
    if (!(thrown instanceof StorageError) || !thrown.message.startsWith('expected Redis to ')) throw thrown;
    const { protocol, host, pathname } = new URL(config.REDIS_URL);
    const { retryable, reason } = thrown;
    const message = `${thrown.message} (${protocol}//${host || pathname}, from REDIS_URL)`;
    throw new StorageError(message, { retryable, reason, cause: thrown });
  } finally {
    await producer.close();
  }
}

/** Locations of this environment as URLs; each throws `InputError` for one outside the roots. */
export function locationChecks() {
  const { SOURCE_ROOTS, DESTINATION_ROOTS } = settings();
  const check = (roots: readonly string[], what: string) => async (location: string) => {
    const url = resolveLocation(location, { cwd: process.cwd() });
    if (roots.length > 0) await assertInsideRoots(url, roots, what);
    return url.href;
  };
  return {
    source: check(SOURCE_ROOTS, 'source'),
    prefix: check(SOURCE_ROOTS, 'prefix'),
    output: check(DESTINATION_ROOTS, 'output'),
  };
}

/** The answer, or an `InputError` that says why it was refused. */
export function accepted<T extends object>(answer: T | Refusal): T {
  if (!('refused' in answer)) return answer;
  if (answer.refused !== 'invalid') throw new InputError(answer.detail);
  throw new InputError(answer.faults.map(({ pointer, detail }) => `${pointer}: ${detail}`).join('\n  '));
}
