import type { Registry } from 'prom-client';
import { catalogue } from './catalogue.ts';
import { counter, histogram } from './define.ts';

/** What the queue consumer counts about attempts. */
export function createJobMetrics(registry: Registry) {
  return {
    wait: histogram(registry, catalogue.jobWait),
    attempts: counter(registry, catalogue.jobAttempts),
    stalled: counter(registry, catalogue.jobsStalled),
    lockLost: counter(registry, catalogue.jobLockLost),
    requeued: counter(registry, catalogue.jobsRequeued),
  };
}
