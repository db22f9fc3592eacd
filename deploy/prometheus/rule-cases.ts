/** One situation: series as promtool writes them (one value a minute), and which alerts it raises or must not raise. */
export type RuleCase = {
  readonly name: string;
  readonly series: Readonly<Record<string, string>>;
  readonly alerts: readonly {
    readonly at: string;
    readonly alert: string;
    /** Labels of the alert beside those of the rule; undefined = must not fire. */
    readonly fires?: Readonly<Record<string, string>>;
  }[];
};

const JOB = 'job="roboflow-worker"';
const POD = `${JOB},instance="a"`;
const job = { job: 'roboflow-worker' };
const pod = { ...job, instance: 'a' };
const episodes = { queue: 'episodes' };

const queue = (state: string, instance = 'a') =>
  `roboflow_queue_jobs{queue="episodes",state="${state}",${JOB},instance="${instance}"}`;
const ended = (status: string) => `roboflow_episodes_ended_total{${POD},status="${status}"}`;

/** Series of a pod in which nothing moves; `over` replaces some. */
const still = (over: Readonly<Record<string, string>> = {}) => ({
  [`roboflow_bytes_read_total{${POD},source="file"}`]: '5x200',
  [`roboflow_bytes_written_total{${POD},destination="file",type="video"}`]: '5x200',
  [`roboflow_job_attempts_total{${POD},outcome="completed"}`]: '5x200',
  [`roboflow_buffer_usage_bytes{${POD}}`]: '1000x200',
  ...over,
});

/** The situations of roboflow.rules.test.yml: for every alert at least one that raises it and one that does not. */
export const ruleCases: readonly RuleCase[] = [
  {
    name: 'a busy, healthy pod raises nothing',
    series: {
      [`up{${POD}}`]: '1x200',
      [queue('waiting')]: '5x200',
      [queue('waiting', 'b')]: '5x200',
      [queue('active')]: '2x200',
      [`roboflow_queue_paused{queue="episodes",${POD}}`]: '0x200',
      [`roboflow_queue_oldest_waiting_seconds{queue="episodes",${POD}}`]: '7200x200',
      [`roboflow_job_wait_seconds_count{${POD}}`]: '0+1x200',
      [`roboflow_redis_up{${POD}}`]: '1x200',
      [`roboflow_redis_config_ok{${POD}}`]: '1x200',
      [`roboflow_active_conversions{${POD}}`]: '1x200',
      [`roboflow_worker_slots{${POD}}`]: '2x200',
      [`roboflow_cluster_workers{${POD}}`]: '2x200',
      [`roboflow_cluster_workers_missing{${POD}}`]: '0x60 1x1 0x139',
      [`roboflow_cluster_aggregation_errors_total{${POD}}`]: '0x200',
      [`roboflow_worker_event_loop_lag_seconds{${POD},worker="0"}`]: '0.02x60 4x1 0.02x139',
      [`roboflow_worker_restarts_total{${POD},reason="signal"}`]: '0x60 1x140',
      [`roboflow_worker_restarts_total{${POD},reason="graceful"}`]: '0+1x200',
      [`roboflow_jobs_stalled_total{${POD}}`]: '0x60 1x140',
      [`roboflow_job_lock_lost_total{${POD}}`]: '0x60 1x140',
      [`roboflow_scratch_free_bytes{${POD}}`]: '50x200',
      [`roboflow_scratch_size_bytes{${POD}}`]: '100x200',
      [`roboflow_upload_retries_total{${POD},reason="throttled"}`]: '0+1x200',
      [`roboflow_upload_duration_seconds_count{${POD},file_type="video"}`]: '0+10x200',
      [`roboflow_http_requests_total{${POD},method="GET",route="/health",status="200"}`]: '0+60x200',
      [`roboflow_http_requests_total{${POD},method="GET",route="/health",status="503"}`]: '0+1x200',
      [ended('completed')]: '0+1x200',
      [ended('failed')]: '0x200',
      ...still({ [`roboflow_bytes_read_total{${POD},source="file"}`]: '0+1000x200' }),
    },
    alerts: [
      'RoboflowDown',
      'RoboflowAbsent',
      'RoboflowRedisDown',
      'RoboflowRedisUnsafe',
      'RoboflowNoProgress',
      'RoboflowQueueStuck',
      'RoboflowQueuePaused',
      'RoboflowSaturated',
      'RoboflowErrorBudgetBurnFast',
      'RoboflowErrorBudgetBurnSlow',
      'RoboflowDeadLetter',
      'RoboflowStalledJobs',
      'RoboflowLockLost',
      'RoboflowWorkerCrashLoop',
      'RoboflowWorkersShort',
      'RoboflowWorkersMissingFromMetrics',
      'RoboflowEventLoopBlocked',
      'RoboflowScratchNearlyFull',
      'RoboflowUploadsStruggle',
      'RoboflowApiErrors',
      'RoboflowMetricsFaults',
    ].map((alert) => ({ at: '62m', alert })),
  },
  {
    name: 'a pod goes away',
    series: { [`up{${POD}}`]: '1x10 0x60' },
    alerts: [
      { at: '12m', alert: 'RoboflowDown' },
      { at: '15m', alert: 'RoboflowDown', fires: pod },
    ],
  },
  {
    name: 'every pod goes away while jobs wait, and with them the queue gauges',
    series: { [`up{${POD}}`]: '1x30', [queue('waiting')]: '5x30' },
    alerts: [
      { at: '30m', alert: 'RoboflowAbsent' },
      { at: '60m', alert: 'RoboflowAbsent', fires: episodes },
    ],
  },
  {
    name: 'every pod goes away when the queue is empty',
    series: { [`up{${POD}}`]: '1x30', [queue('waiting')]: '5x20 0x10' },
    alerts: [{ at: '90m', alert: 'RoboflowAbsent' }],
  },
  {
    name: 'Redis is away for one pod of two',
    series: {
      [`roboflow_redis_up{${POD}}`]: '1x10 0x30',
      [`roboflow_redis_up{${JOB},instance="b"}`]: '1x40',
    },
    alerts: [
      { at: '11m', alert: 'RoboflowRedisDown' },
      { at: '15m', alert: 'RoboflowRedisDown', fires: job },
    ],
  },
  {
    name: 'Redis evicts',
    series: { [`roboflow_redis_config_ok{${POD}}`]: '0x40' },
    alerts: [
      { at: '5m', alert: 'RoboflowRedisUnsafe' },
      { at: '15m', alert: 'RoboflowRedisUnsafe', fires: job },
    ],
  },
  {
    name: 'nothing moves although a job is active',
    series: { [queue('active')]: '1x200', ...still() },
    alerts: [
      { at: '20m', alert: 'RoboflowNoProgress' },
      { at: '60m', alert: 'RoboflowNoProgress', fires: job },
    ],
  },
  {
    name: 'an hour-long recording is converted: no episode ends, but buffers change',
    series: {
      [queue('active')]: '1x200',
      ...still({ [`roboflow_buffer_usage_bytes{${POD}}`]: '0+10x200' }),
    },
    alerts: [{ at: '90m', alert: 'RoboflowNoProgress' }],
  },
  {
    name: 'nothing moves because there is nothing to do',
    series: { [queue('active')]: '0x200', ...still() },
    alerts: [{ at: '90m', alert: 'RoboflowNoProgress' }],
  },
  {
    name: 'jobs wait for hours and none is started',
    series: {
      [`roboflow_queue_oldest_waiting_seconds{queue="episodes",${POD}}`]: '0+60x200',
      [`roboflow_job_wait_seconds_count{${POD}}`]: '5x200',
    },
    alerts: [
      { at: '50m', alert: 'RoboflowQueueStuck' },
      { at: '80m', alert: 'RoboflowQueueStuck', fires: episodes },
    ],
  },
  {
    name: 'the queue was paused and forgotten',
    series: {
      [`roboflow_queue_paused{queue="episodes",${POD}}`]: '1x100',
      [queue('waiting')]: '0x20 3x80',
    },
    alerts: [
      { at: '40m', alert: 'RoboflowQueuePaused' },
      { at: '60m', alert: 'RoboflowQueuePaused', fires: episodes },
    ],
  },
  {
    name: 'all slots are busy and jobs wait',
    series: {
      [`roboflow_active_conversions{${POD}}`]: '2x100',
      [`roboflow_worker_slots{${POD}}`]: '2x100',
      [queue('waiting')]: '9x100',
    },
    alerts: [
      { at: '20m', alert: 'RoboflowSaturated' },
      { at: '40m', alert: 'RoboflowSaturated', fires: job },
    ],
  },
  {
    name: 'three of ten episodes fail',
    series: { [ended('completed')]: '0+7x400', [ended('failed')]: '0+3x400' },
    alerts: [
      { at: '6h', alert: 'RoboflowErrorBudgetBurnFast', fires: job },
      { at: '6h', alert: 'RoboflowErrorBudgetBurnSlow', fires: job },
      { at: '6h', alert: 'RoboflowDeadLetter', fires: job },
    ],
  },
  {
    name: 'the only two episodes of the hour fail: too few to speak of a rate, but said',
    series: { [ended('completed')]: '0x400', [ended('failed')]: '0x320 1x20 2x60' },
    alerts: [
      { at: '6h', alert: 'RoboflowErrorBudgetBurnFast' },
      { at: '6h', alert: 'RoboflowErrorBudgetBurnSlow' },
      { at: '6h', alert: 'RoboflowDeadLetter', fires: job },
    ],
  },
  {
    name: 'one of a hundred episodes fails: within the objective',
    series: { [ended('completed')]: '0+99x400', [ended('failed')]: '0+1x400' },
    alerts: [
      { at: '6h', alert: 'RoboflowErrorBudgetBurnFast' },
      { at: '6h', alert: 'RoboflowErrorBudgetBurnSlow' },
    ],
  },
  {
    name: 'workers die, jobs stall, locks are lost',
    series: {
      [`roboflow_worker_restarts_total{${POD},reason="oom"}`]: '0+1x60',
      [`roboflow_jobs_stalled_total{${POD}}`]: '0+1x60',
      [`roboflow_job_lock_lost_total{${POD}}`]: '0+1x60',
      [`roboflow_worker_slots{${POD}}`]: '4x60',
      [`roboflow_cluster_workers{${POD}}`]: '4x5 3x55',
      [`roboflow_cluster_workers_missing{${POD}}`]: '0x10 1x50',
      [`roboflow_worker_event_loop_lag_seconds{${POD},worker="1"}`]: '0x10 3x50',
    },
    alerts: [
      { at: '30m', alert: 'RoboflowWorkerCrashLoop', fires: job },
      { at: '30m', alert: 'RoboflowStalledJobs', fires: job },
      { at: '30m', alert: 'RoboflowLockLost', fires: job },
      { at: '10m', alert: 'RoboflowWorkersShort' },
      { at: '30m', alert: 'RoboflowWorkersShort', fires: pod },
      { at: '13m', alert: 'RoboflowWorkersMissingFromMetrics' },
      { at: '30m', alert: 'RoboflowWorkersMissingFromMetrics', fires: job },
      { at: '30m', alert: 'RoboflowEventLoopBlocked', fires: { ...pod, worker: '1' } },
    ],
  },
  {
    name: 'scratch fills up',
    series: {
      [`roboflow_scratch_free_bytes{${POD}}`]: '50-1x45',
      [`roboflow_scratch_size_bytes{${POD}}`]: '100x60',
    },
    alerts: [
      { at: '42m', alert: 'RoboflowScratchNearlyFull' },
      { at: '47m', alert: 'RoboflowScratchNearlyFull', fires: pod },
    ],
  },
  {
    name: 'the destination throttles, the API fails, a metric cannot be read',
    series: {
      [`roboflow_upload_retries_total{${POD},reason="throttled"}`]: '0+6x60',
      [`roboflow_upload_duration_seconds_count{${POD},file_type="video"}`]: '0+10x60',
      [`roboflow_http_requests_total{${POD},method="POST",route="/v1/datasets",status="503"}`]: '0+3x60',
      [`roboflow_http_requests_total{${POD},method="GET",route="/health",status="200"}`]: '0+10x60',
      [`roboflow_cluster_aggregation_errors_total{${POD}}`]: '0x20 1x40',
    },
    alerts: [
      { at: '40m', alert: 'RoboflowUploadsStruggle', fires: job },
      { at: '40m', alert: 'RoboflowApiErrors', fires: job },
      { at: '22m', alert: 'RoboflowMetricsFaults', fires: job },
      { at: '50m', alert: 'RoboflowMetricsFaults' },
    ],
  },
  {
    name: 'a single failed upload among few is no struggle',
    series: {
      [`roboflow_upload_retries_total{${POD},reason="network"}`]: '0x20 2x40',
      [`roboflow_upload_duration_seconds_count{${POD},file_type="video"}`]: '0x20 1x40',
    },
    alerts: [{ at: '30m', alert: 'RoboflowUploadsStruggle' }],
  },
];
