import Router from '@koa/router';
import { budgeted, type Reading } from './probe.ts';

/** What Redis answered. `policy` is null or `unknown`, `aof` null, where it does not tell (managed services). */
export type RedisReading = {
  readonly latencyMs: number;
  readonly policy: string | null;
  readonly aof: boolean | null;
  /** Why it cannot hold jobs safely, in words. */
  readonly faults: readonly string[];
};

/** The queue of episodes. */
export type QueueReading = {
  readonly name: string;
  readonly counts: Readonly<Record<string, number>>;
  readonly oldestWaitingSeconds: number | null;
  readonly paused: boolean;
};

/** The worker slots of this pod; all zero in an API-only pod. */
export type WorkersReading = {
  readonly slots: number;
  readonly running: number;
  readonly busy: number;
  /** Running, but silent when asked for metrics. */
  readonly missing: number;
  readonly restartsLastHour: number;
  /** Slots waiting in back-off after quick deaths. */
  readonly crashLooping?: number;
};

/** Whether the pod takes work when there is some. */
export type ConsumptionReading = {
  /** Since a job last started, moved or ended here; null before the first. */
  readonly lastActivitySeconds: number | null;
  /** Work waits, a worker idles, nothing keeps it. */
  readonly stuck: boolean;
  /** Still stuck after the worker was replaced twice: only a new pod can help. */
  readonly hopeless?: boolean;
};

/** Where health comes from; each is asked with a budget of its own and may fail. */
export type HealthProbes = {
  redis(): Promise<RedisReading>;
  queue(): Promise<QueueReading>;
  workers(): WorkersReading | Promise<WorkersReading>;
  consumption(): ConsumptionReading | Promise<ConsumptionReading>;
  draining(): boolean;
  /** How late this process' event loop ran lately, in seconds. */
  loopLagSeconds(): number;
};

export type HealthOptions = {
  readonly probes: HealthProbes;
  readonly version: string;
  /** For each probe; default 1 s. */
  readonly budgetMs?: number;
};

export type HealthStatus = 'ok' | 'degraded' | 'unavailable';
type CheckReport = { readonly status: HealthStatus; readonly [field: string]: unknown };

/** The body of `/health`. */
export type HealthReport = {
  readonly status: HealthStatus;
  readonly version: string;
  readonly uptimeSeconds: number;
  readonly draining: boolean;
  readonly checks: {
    readonly redis: CheckReport;
    readonly queue: CheckReport;
    readonly workers: CheckReport;
    readonly consumption: CheckReport;
  };
};

/** A probe's verdict and why it is not a yes. */
export type Verdict = { readonly ok: boolean; readonly reasons: readonly string[] };

/** An event loop this late serves nobody. */
const LIVE_LAG_SECONDS = 5;

/** The three answers about this pod's health; none of them rejects. */
export function createHealth(options: HealthOptions): {
  report(): Promise<HealthReport>;
  live(): Promise<Verdict>;
  ready(): Promise<Verdict>;
} {
  const { probes, version } = options;
  const budgetMs = options.budgetMs ?? 1000;
  const redis = budgeted(() => probes.redis(), { budgetMs, cacheMs: 2000 });
  const queue = budgeted(() => probes.queue(), { budgetMs, cacheMs: 1000 });
  const workers = budgeted(() => probes.workers(), { budgetMs, cacheMs: 0 });
  const consumption = budgeted(() => probes.consumption(), { budgetMs, cacheMs: 0 });

  return {
    async report() {
      const [redisIs, queueIs, workersAre, consumptionIs] = await Promise.all([
        redis(),
        queue(),
        workers(),
        consumption(),
      ]);
      const checks = {
        redis: redisCheck(redisIs),
        queue: check(queueIs, QUEUE_UNKNOWN, (value) => (value.paused ? 'degraded' : 'ok')),
        workers: workersCheck(workersAre),
        consumption: consumptionCheck(consumptionIs),
      };
      return {
        status: worst(Object.values(checks).map((entry) => entry.status)),
        version,
        uptimeSeconds: Math.floor(process.uptime()),
        draining: probes.draining(),
        checks,
      };
    },
    async live() {
      const reasons: string[] = [];
      const lag = probes.loopLagSeconds();
      if (lag > LIVE_LAG_SECONDS) reasons.push(`the event loop was ${lag.toFixed(1)} s late`);
      const [workersAre, consumptionIs] = await Promise.all([workers(), consumption()]);
      if (workersAre.ok && !probes.draining()) {
        const { slots, crashLooping = 0 } = workersAre.value;
        if (slots > 0 && crashLooping >= slots) reasons.push(`all ${slots} worker slots crash at once`);
      }
      if (consumptionIs.ok && consumptionIs.value.hopeless === true) {
        reasons.push('work waits, and replacing the idle worker did not help');
      }
      return { ok: reasons.length === 0, reasons };
    },
    async ready() {
      const reasons: string[] = [];
      if (probes.draining()) reasons.push('draining');
      const [redisIs, workersAre] = await Promise.all([redis(), workers()]);
      if (!redisIs.ok) reasons.push(`redis: ${redisIs.error}`);
      else reasons.push(...redisIs.value.faults.map((fault) => `redis: ${fault}`));
      if (!workersAre.ok) reasons.push(`workers: ${workersAre.error}`);
      else if (workersAre.value.slots > 0 && workersAre.value.running === 0)
        reasons.push('no worker is running');
      return { ok: reasons.length === 0, reasons };
    },
  };
}

/** `GET /health`, `/livez`, `/readyz`: 200, or 503 when the answer is no. */
export function healthRouter(health: ReturnType<typeof createHealth>): Router {
  const router = new Router();
  router.get('/health', async (ctx) => {
    const report = await health.report();
    ctx.status = report.status === 'unavailable' ? 503 : 200;
    ctx.set('Cache-Control', 'no-store');
    ctx.body = report;
  });
  for (const [path, ask] of [
    ['/livez', () => health.live()],
    ['/readyz', () => health.ready()],
  ] as const) {
    router.get(path, async (ctx) => {
      const verdict = await ask();
      ctx.status = verdict.ok ? 200 : 503;
      ctx.set('Cache-Control', 'no-store');
      ctx.body = verdict;
    });
  }
  return router;
}

function redisCheck(reading: Reading<RedisReading>): CheckReport {
  const unknown = { latencyMs: null, policy: null, aof: null, faults: null };
  return check(reading, unknown, ({ faults, aof }) =>
    faults.length === 0 && aof !== false ? 'ok' : 'degraded',
  );
}

const QUEUE_UNKNOWN = { name: null, counts: null, oldestWaitingSeconds: null, paused: null };

function workersCheck(reading: Reading<WorkersReading>): CheckReport {
  const unknown = { slots: null, running: null, busy: null, missing: null, restartsLastHour: null };
  return check(reading, unknown, ({ slots, running, missing }) => {
    if (slots > 0 && running === 0) return 'unavailable';
    return running < slots || missing > 0 ? 'degraded' : 'ok';
  });
}

function consumptionCheck(reading: Reading<ConsumptionReading>): CheckReport {
  return check(reading, { lastActivitySeconds: null, stuck: null }, (value) => {
    if (value.hopeless === true) return 'unavailable';
    return value.stuck ? 'degraded' : 'ok';
  });
}

/** A failed probe is `unavailable`; it shows the last values there were, and how old they are. */
function check<T extends object>(
  reading: Reading<T>,
  unknown: Readonly<Record<string, null>>,
  judge: (value: T) => HealthStatus,
): CheckReport {
  if (reading.ok) return { status: judge(reading.value), ...reading.value };
  return {
    status: 'unavailable',
    ...(reading.last?.value ?? unknown),
    error: reading.error,
    ...(reading.last === undefined ? {} : { ageSeconds: Math.round(reading.last.ageSeconds) }),
  };
}

function worst(statuses: readonly HealthStatus[]): HealthStatus {
  if (statuses.includes('unavailable')) return 'unavailable';
  return statuses.includes('degraded') ? 'degraded' : 'ok';
}
