import type { DashboardSpec } from './build.ts';
import { JOB, perSecond, quantile, shared, total } from './queries.ts';

/** Pods, workers, Redis, HTTP, and whether the metrics themselves are right. */
export const processes: DashboardSpec = {
  uid: 'roboflow-processes',
  title: 'roboflow / Processes',
  description: 'Pods, workers, Redis, HTTP, and whether the metrics themselves are right.',
  rows: [
    {
      title: 'Workers',
      panels: [
        {
          kind: 'series',
          title: 'Memory by slot',
          description: 'Resident memory of each worker; its encoders are not in it.',
          unit: 'bytes',
          width: 8,
          queries: [
            {
              expr: shared('roboflow_worker_resident_memory_bytes', ['instance', 'worker']),
              legend: '{{instance}} #{{worker}}',
            },
          ],
        },
        {
          kind: 'series',
          title: 'Event loop delay by slot, p99',
          description: 'Above a second a worker is about to lose its lock.',
          unit: 's',
          width: 8,
          queries: [
            {
              expr: shared('roboflow_worker_event_loop_lag_seconds', ['instance', 'worker']),
              legend: '{{instance}} #{{worker}}',
            },
          ],
        },
        {
          kind: 'series',
          title: 'CPU by slot',
          description: 'Cores used by each worker; its encoders are not in it.',
          unit: 'none',
          width: 8,
          queries: [
            {
              expr: perSecond('roboflow_worker_cpu_seconds_total', ['instance', 'worker']),
              legend: '{{instance}} #{{worker}}',
            },
          ],
        },
        {
          kind: 'series',
          title: 'Workers alive and slots',
          description: 'A gap means that workers die or cannot be forked.',
          unit: 'short',
          width: 8,
          queries: [
            { expr: total('roboflow_cluster_workers'), legend: 'alive' },
            { expr: total('roboflow_worker_slots'), legend: 'slots' },
            { expr: total('roboflow_workers_busy'), legend: 'busy' },
          ],
        },
        {
          kind: 'stacked',
          title: 'Workers replaced by reason',
          description: 'Over the panel’s interval.',
          unit: 'short',
          width: 8,
          queries: [
            {
              expr: `sum by (reason) (increase(roboflow_worker_restarts_total{${JOB}}[$__rate_interval]))`,
              legend: '{{reason}}',
            },
          ],
        },
        {
          kind: 'series',
          title: 'Seconds since the last success',
          description: 'Since an episode was completed anywhere.',
          unit: 's',
          width: 8,
          queries: [
            {
              expr: `time() - max (roboflow_last_success_timestamp_seconds{${JOB}} > 0)`,
              legend: 'all pods',
            },
          ],
        },
      ],
    },
    {
      title: 'Primary and Redis',
      panels: [
        {
          kind: 'series',
          title: 'Memory of the primary',
          description: 'Resident memory.',
          unit: 'bytes',
          width: 8,
          queries: [{ expr: total('process_resident_memory_bytes', ['instance']), legend: '{{instance}}' }],
        },
        {
          kind: 'series',
          title: 'Event loop delay of the primary, p99',
          description: 'The primary answers HTTP and scrapes.',
          unit: 's',
          width: 8,
          queries: [
            { expr: shared('nodejs_eventloop_lag_p99_seconds', ['instance']), legend: '{{instance}}' },
          ],
        },
        {
          kind: 'series',
          title: 'Redis ping',
          description: 'Round trip of the last poll.',
          unit: 's',
          width: 8,
          queries: [
            { expr: shared('roboflow_redis_ping_duration_seconds', ['instance']), legend: '{{instance}}' },
          ],
        },
      ],
    },
    {
      title: 'HTTP',
      panels: [
        {
          kind: 'series',
          title: 'Requests per second by route',
          description: 'Route templates; probes and scrapes included.',
          unit: 'reqps',
          width: 8,
          queries: [{ expr: perSecond('roboflow_http_requests_total', ['route']), legend: '{{route}}' }],
        },
        {
          kind: 'series',
          title: 'Duration by route, p95',
          description: 'Time to answer.',
          unit: 's',
          width: 8,
          queries: [
            {
              expr: quantile(0.95, 'roboflow_http_request_duration_seconds', ['route']),
              legend: '{{route}}',
            },
          ],
        },
        {
          kind: 'stacked',
          title: 'Answers per second by status',
          description: '4xx is the caller’s fault, 5xx ours or Redis’.',
          unit: 'reqps',
          width: 8,
          queries: [{ expr: perSecond('roboflow_http_requests_total', ['status']), legend: '{{status}}' }],
        },
      ],
    },
    {
      title: 'The metrics themselves',
      panels: [
        {
          kind: 'series',
          title: 'Workers that did not answer',
          description: 'Hung or still starting; their last values were served.',
          unit: 'short',
          width: 6,
          queries: [
            { expr: total('roboflow_cluster_workers_missing', ['instance']), legend: '{{instance}}' },
          ],
        },
        {
          kind: 'series',
          title: 'Oldest values served',
          description: 'Age of the oldest snapshot of a living worker.',
          unit: 's',
          width: 6,
          queries: [
            {
              expr: shared('roboflow_cluster_snapshot_age_seconds_max', ['instance']),
              legend: '{{instance}}',
            },
          ],
        },
        {
          kind: 'series',
          title: 'Faults repaired and labels folded',
          description: 'Over the panel’s interval.',
          unit: 'short',
          width: 6,
          queries: [
            {
              expr: `sum (increase(roboflow_cluster_aggregation_errors_total{${JOB}}[$__rate_interval]))`,
              legend: 'faults',
            },
            {
              expr: `sum by (label) (increase(roboflow_label_overflow_total{${JOB}}[$__rate_interval]))`,
              legend: 'folded: {{label}}',
            },
          ],
        },
        {
          kind: 'table',
          title: 'What runs',
          description: 'Version, revision and Node of each pod.',
          unit: 'short',
          width: 6,
          queries: [
            {
              expr: `max by (instance, version, revision, node) (roboflow_build_info{${JOB}})`,
              legend: '',
            },
          ],
        },
      ],
    },
  ],
};
