/**
 * How metrics travel from a worker to the primary. A worker pushes as JSON what changed in its registry since its last
 * message: on an interval, when a job or stage ends, when asked, and before it exits. The primary asks with a number; the answer repeats the highest
 * number seen when it was taken, so that the primary knows it is at least as new as its question.
 */

/** One series as prom-client's `getMetricsAsJSON` writes it. */
export type SeriesJson = {
  readonly value: number;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly metricName?: string;
  readonly exemplar?: ExemplarJson | null;
};

/** One observation that a bucket counted, and what it belonged to. */
export type ExemplarJson = {
  readonly labelSet: Readonly<Record<string, string>>;
  readonly value: number;
  /** Seconds since 1970. */
  readonly timestamp: number;
};

/** One metric as prom-client's `getMetricsAsJSON` writes it. */
export type MetricJson = {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram' | 'summary';
  readonly aggregator: string;
  readonly values: readonly SeriesJson[];
};

/**
 * Worker to primary. `unchanged` names metrics that read as in the message before, `failed` those that could not be read
 * this time; `carry` is what was flushed along.
 */
export type SnapshotMessage = {
  readonly type: 'roboflow:metrics';
  readonly answers: number;
  readonly metrics: readonly unknown[];
  readonly unchanged: readonly string[];
  readonly failed: readonly string[];
  readonly carry?: readonly unknown[];
};

/** Primary to worker. `admitted` lists, once a label's budget is used up, the values that have it; told once. */
export type SnapshotRequest = {
  readonly type: 'roboflow:metrics:request';
  readonly request: number;
  readonly admitted?: Readonly<Record<string, readonly string[]>>;
};

/** Whether an IPC message is a snapshot; other messages share the channel. */
export function isSnapshotMessage(message: unknown): message is SnapshotMessage {
  return (
    isObject(message) &&
    message['type'] === 'roboflow:metrics' &&
    typeof message['answers'] === 'number' &&
    Array.isArray(message['metrics']) &&
    Array.isArray(message['unchanged']) &&
    Array.isArray(message['failed'])
  );
}

/** Whether an IPC message asks for a snapshot. */
export function isSnapshotRequest(message: unknown): message is SnapshotRequest {
  return (
    isObject(message) &&
    message['type'] === 'roboflow:metrics:request' &&
    typeof message['request'] === 'number' &&
    (message['admitted'] === undefined || isObject(message['admitted']))
  );
}

const TYPES: ReadonlySet<unknown> = new Set(['counter', 'gauge', 'histogram', 'summary']);
const AGGREGATORS: ReadonlySet<unknown> = new Set(['sum', 'first', 'min', 'max', 'average', 'omit']);

/**
 * The usable part of what a process sent, and the number of faults repaired. A metric whose aggregator is unknown is
 * summed. A gauge that is no number is left out (over JSON, NaN and infinity arrive as null). A counter or histogram
 * that cannot be read keeps its values of `previous`, so that it never falls.
 */
export function repair(
  received: readonly unknown[],
  failed: readonly string[],
  previous: readonly MetricJson[],
): { metrics: MetricJson[]; faults: number } {
  let faults = failed.length;
  const metrics: MetricJson[] = [];
  const before = new Map(previous.filter(isCumulative).map((metric) => [metric.name, metric]));
  const keep = (name: string): void => {
    const metric = before.get(name);
    if (metric !== undefined) metrics.push(metric);
  };
  for (const name of failed) keep(name);
  for (const metric of received) {
    if (!isMetric(metric)) {
      faults += 1;
      continue;
    }
    let readable = metric;
    if (!AGGREGATORS.has(metric.aggregator)) {
      faults += 1;
      readable = { ...metric, aggregator: 'sum' };
    }
    const values = metric.values.filter(isSeries);
    if (values.length === metric.values.length) {
      metrics.push(readable);
      continue;
    }
    faults += metric.values.length - values.length;
    if (isCumulative(metric) && before.has(metric.name)) keep(metric.name);
    else metrics.push({ ...readable, values });
  }
  return { metrics, faults };
}

/** Counters and histograms: what survives the process that counted it. Quantiles of summaries cannot be added. */
export function isCumulative(metric: MetricJson): boolean {
  return metric.type === 'counter' || metric.type === 'histogram';
}

function isMetric(value: unknown): value is MetricJson {
  return (
    isObject(value) &&
    typeof value['name'] === 'string' &&
    typeof value['help'] === 'string' &&
    TYPES.has(value['type']) &&
    Array.isArray(value['values'])
  );
}

function isSeries(value: unknown): value is SeriesJson {
  return isObject(value) && Number.isFinite(value['value']) && isObject(value['labels']);
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
