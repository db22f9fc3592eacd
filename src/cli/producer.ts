import { Registry } from 'prom-client';
import { createLog } from '../log.ts';
import { createMetrics } from '../metrics/index.ts';
import { InputError } from '../errors.ts';
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
  const check = async (location: string, roots: readonly string[], what: string) => {
    const url = resolveLocation(location, { cwd: process.cwd() });
    if (roots.length > 0) await assertInsideRoots(url, roots, what);
    return url.href;
  };
  const producer = new Producer({
    redis: { url: config.REDIS_URL },
    prefix: config.QUEUE_PREFIX,
    log: createLog({ level: 'error', format: 'pretty', destination: context.err }),
    checkSource: (location) => check(location, config.SOURCE_ROOTS, 'source'),
    checkPrefix: (location) => check(location, config.SOURCE_ROOTS, 'prefix'),
    checkOutput: (location) => check(location, config.DESTINATION_ROOTS, 'output'),
    openOutput: (url) => openStorage(url, { ...sourceSettings(), metrics, role: 'destination' }),
  });
  try {
    return await work(producer);
  } finally {
    await producer.close();
  }
}

/** The answer, or an `InputError` that says why it was refused. */
export function accepted<T extends object>(answer: T | Refusal): T {
  if (!('refused' in answer)) return answer;
  if (answer.refused !== 'invalid') throw new InputError(answer.detail);
  throw new InputError(answer.faults.map(({ pointer, detail }) => `${pointer}: ${detail}`).join('\n  '));
}
