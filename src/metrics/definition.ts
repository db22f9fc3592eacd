/** One metric: its name, meaning, labels, and how values of several processes become one. */
export type MetricDefinition = {
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly help: string;
  readonly labels: readonly string[];
  /** Labels whose values are known beforehand. When all of a metric's labels are, every series starts at 0. */
  readonly closed?: Readonly<Record<string, readonly string[]>>;
  /** Upper bounds of a histogram, in the unit of the name. */
  readonly buckets?: readonly number[];
  /** Each bucket of a histogram remembers one observation and what it belonged to; OpenMetrics shows it. */
  readonly exemplars?: true;
  /** How values of several workers become one. */
  readonly aggregator: 'sum' | 'first' | 'min' | 'max' | 'average' | 'omit';
  /** A gauge that outlives its process: its last value stays in the pod's sum of things. */
  readonly retained?: true;
};

/** How an episode can end: `status` of the episode counter. */
export const EPISODE_STATUSES = ['completed', 'failed', 'cancelled', 'skipped'] as const;
/** Kinds of store. */
export const STORES = ['file', 's3'] as const;
/** Kinds of file a dataset is made of. */
export const FILE_TYPES = ['parquet', 'video', 'meta'] as const;
/** Why a storage operation was tried again. */
export const RETRY_REASONS = [
  'timeout',
  'throttled',
  'network',
  'server_error',
  'checksum',
  'other',
] as const;
/** Steps of an episode's job, and the last step of a dataset. */
export const STAGES = ['plan', 'convert', 'verify', 'upload', 'finalize'] as const;
/** How one attempt at a job can end; `retried` = failed and will be tried again, `requeued` = handed back unharmed. */
export const ATTEMPT_OUTCOMES = [
  'completed',
  'skipped',
  'failed',
  'retried',
  'cancelled',
  'requeued',
  'lost',
] as const;
/** Why a job went back to the queue without having failed. */
export const REQUEUE_REASONS = ['shutdown', 'crash', 'redis'] as const;
/** Why a worker process was replaced. */
export const RESTART_REASONS = ['exit', 'signal', 'oom', 'hung', 'graceful'] as const;
/** States of a job in the queue, as BullMQ names them. */
export const QUEUE_STATES = [
  'waiting',
  'prioritized',
  'active',
  'delayed',
  'waiting-children',
  'failed',
] as const;
/** Labels whose values users choose; they pass a budget. */
export const USER_LABELS = ['dataset_id', 'camera'] as const;
