import type { Registry } from 'prom-client';
import { catalogue } from './catalogue.ts';
import { counter, histogram } from './define.ts';

/** Methods that get a label of their own; anything a client may invent is `other`. */
const METHODS: ReadonlySet<string> = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']);

/** Rate, errors and duration of the API by route template. */
export function createHttpMetrics(registry: Registry) {
  const requests = counter(registry, catalogue.httpRequests);
  const duration = histogram(registry, catalogue.httpDuration);
  return {
    /** Counts one answered request. `route` is a template such as `/v1/jobs/:id`, never a path. */
    observe(request: { method: string; route: string; status: number; seconds: number }): void {
      const method = METHODS.has(request.method) ? request.method : 'other';
      requests.inc({ method, route: request.route, status: request.status });
      duration.observe({ route: request.route }, request.seconds);
    },
  };
}
