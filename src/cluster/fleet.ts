import cluster, { type Worker } from 'node:cluster';
import { fileURLToPath } from 'node:url';
import type { Log } from '../conversion/types.ts';
import { onGone } from '../metrics/cluster-peer.ts';
import { isSnapshotMessage } from '../metrics/snapshot.ts';
import type { ActiveJob } from '../queue/running.ts';
import { isToPrimary, type ToPrimary, type ToWorker } from './messages.ts';

/** Why a worker process ended: the closed set of the restart counter. */
export type ExitReason = 'exit' | 'signal' | 'oom' | 'hung' | 'graceful';

/** A worker that ended, with the jobs it still held. */
export type WorkerExit = {
  readonly slot: number;
  readonly pid: number;
  readonly reason: ExitReason;
  /** In words, for logs and job failures: `SIGKILL`, `exit code 1`. */
  readonly detail: string;
  /** The primary killed it: its jobs are not to blame. */
  readonly killed: boolean;
  readonly jobs: readonly ActiveJob[];
};

type Slot = {
  readonly index: number;
  worker: Worker | undefined;
  startedAt: number;
  /** Since when it holds no job, ms since the epoch. */
  idleSince: number;
  ready: boolean;
  /** Whether it said anything since `quiet` was asked last. */
  heard: boolean;
  /** Set before a worker is killed on purpose. */
  recycling: boolean;
  quickDeaths: number;
  restart: NodeJS.Timeout | undefined;
  readonly jobs: Map<string, ActiveJob>;
};

/**
 * Pictures and chunks are memory outside the JavaScript heap, which only collections give back; how often they come
 * decides between a worker's memory and its time. Growth by 80 % with the smallest young generation collects eight times in
 * twenty seconds of three cameras and takes an eighth more of its CPU for 40 MB less; V8's own choice collects as often.
 */
export const workerFlags: readonly string[] = ['--max-semi-space-size=4', '--heap-growing-percent=200'];

/** A worker that lives shorter than this counts towards its slot's crash loop. */
const QUICK_DEATH_MS = 10_000;
const MAX_BACKOFF_MS = 30_000;
/** From this many quick deaths in a row a slot is in a crash loop. */
const CRASH_LOOP = 4;
const HOUR_MS = 3_600_000;

/**
 * The worker processes of a pod: one per slot, replaced when they die. The first death restarts at once, quick deaths
 * in a row wait 0.5 s, 1 s, 2 s … 30 s. A slot keeps its number over all its processes.
 */
export class Fleet {
  readonly #slots: Slot[];
  readonly #log: Log;
  readonly #onFork: (worker: Worker) => void;
  readonly #onExit: (exit: WorkerExit) => void;
  readonly #restarts: number[] = [];
  #stopping = false;
  #killed = false;
  #lastActivity: number | undefined;
  #empty: (() => void) | undefined;

  constructor(options: {
    slots: number;
    log: Log;
    onFork: (worker: Worker) => void;
    onExit: (exit: WorkerExit) => void;
  }) {
    this.#log = options.log;
    this.#onFork = options.onFork;
    this.#onExit = options.onExit;
    this.#slots = Array.from({ length: options.slots }, (_, index) => ({
      index,
      worker: undefined,
      startedAt: 0,
      idleSince: 0,
      ready: false,
      heard: false,
      recycling: false,
      quickDeaths: 0,
      restart: undefined,
      jobs: new Map(),
    }));
  }

  /** Starts a worker in every slot. */
  start(): void {
    // Whatever program is the primary, workers run the service's entry.
    cluster.setupPrimary({
      exec: fileURLToPath(new URL('../main.js', import.meta.url)),
      execArgv: [...process.execArgv, ...workerFlags],
    });
    for (const slot of this.#slots) this.#fork(slot);
  }

  /** Counts for health and metrics; `restartsLastHour` leaves graceful ends out. */
  status() {
    const since = Date.now() - HOUR_MS;
    while ((this.#restarts[0] ?? since) < since) this.#restarts.shift();
    return {
      slots: this.#slots.length,
      running: this.#slots.filter((slot) => slot.ready).length,
      busy: this.#slots.filter((slot) => slot.jobs.size > 0).length,
      missing: this.#slots.filter((slot) => !slot.ready).length,
      restartsLastHour: this.#restarts.length,
      crashLooping: this.#slots.filter((slot) => slot.quickDeaths >= CRASH_LOOP).length,
    };
  }

  /** Slots whose worker holds no job, with the time since when (ms since the epoch). */
  idle(): readonly { readonly slot: number; readonly since: number }[] {
    return this.#slots
      .filter((slot) => slot.ready && !slot.recycling && slot.jobs.size === 0)
      .map((slot) => ({ slot: slot.index, since: slot.idleSince }));
  }

  /** Slots whose worker has said nothing since the last call, not even what it counted. */
  quiet(): readonly number[] {
    const quiet = this.#slots.filter((slot) => slot.ready && !slot.recycling && !slot.heard);
    for (const slot of this.#slots) slot.heard = false;
    return quiet.map((slot) => slot.index);
  }

  /** When a job last started or ended here, ms since the epoch; undefined before the first. */
  get lastActivity(): number | undefined {
    return this.#lastActivity;
  }

  /** Sends a message to every worker. */
  broadcast(message: ToWorker): void {
    for (const slot of this.#slots) if (slot.worker?.isConnected()) slot.worker.send(message);
  }

  /** Kills one worker that hangs; it is replaced. */
  recycle(index: number): void {
    const slot = this.#slots[index];
    if (!slot?.worker) return;
    slot.recycling = true;
    slot.worker.process.kill('SIGKILL');
  }

  /** Ends all workers: no more replacements, `drain` to each; resolves when the last is gone. */
  async drain(): Promise<void> {
    this.#stopping = true;
    for (const slot of this.#slots) clearTimeout(slot.restart);
    const gone = new Promise<void>((resolve) => (this.#empty = resolve));
    this.broadcast({ type: 'drain' });
    this.#checkEmpty();
    await gone;
  }

  /** SIGKILL to every worker still there. */
  kill(): void {
    this.#stopping = true;
    this.#killed = true;
    for (const slot of this.#slots) slot.worker?.process.kill('SIGKILL');
  }

  #fork(slot: Slot): void {
    const worker = cluster.fork({ ROBOFLOW_WORKER_SLOT: String(slot.index) });
    slot.worker = worker;
    slot.startedAt = Date.now();
    this.#onFork(worker);
    worker.on('message', (message: unknown) => {
      slot.heard = true;
      if (isToPrimary(message)) this.#receive(slot, message);
      if (!isSnapshotMessage(message)) return;
      for (const carried of message.carry ?? []) if (isToPrimary(carried)) this.#receive(slot, carried);
    });
    worker.on('error', (error) =>
      this.#log.warn({ slot: slot.index, err: error }, 'message to worker failed'),
    );
    onGone(worker, (code, signal) => this.#exited(slot, code, signal));
  }

  #receive(slot: Slot, message: ToPrimary): void {
    if (message.type === 'ready') {
      // A new process is no sign that jobs are taken: it may idle like the one before.
      slot.ready = true;
      slot.idleSince = Date.now();
      return;
    }
    if (message.type === 'job-started') slot.jobs.set(message.job.jobId, message.job);
    else if (slot.jobs.get(message.job.jobId)?.token === message.job.token) {
      // With the token, as the end of an earlier try may be told after the next one has begun.
      slot.jobs.delete(message.job.jobId);
    }
    this.#lastActivity = Date.now();
    if (slot.jobs.size === 0) slot.idleSince = this.#lastActivity;
  }

  #exited(slot: Slot, code: number | null, signal: string | null): void {
    const jobs = [...slot.jobs.values()];
    const reason = this.#reasonOf(slot, code, signal);
    const lived = Date.now() - slot.startedAt;
    const pid = slot.worker?.process.pid ?? 0;
    const killed = this.#killed || slot.recycling;
    slot.jobs.clear();
    slot.worker = undefined;
    slot.ready = false;
    slot.recycling = false;
    slot.quickDeaths = lived < QUICK_DEATH_MS ? slot.quickDeaths + 1 : 0;
    const exit = { slot: slot.index, pid, reason, detail: signal ?? `exit code ${code}`, killed, jobs };
    if (reason === 'graceful') this.#log.info({ slot: slot.index, pid }, 'worker ended');
    else {
      this.#restarts.push(Date.now());
      this.#log.error(
        { slot: slot.index, pid, reason, detail: exit.detail, jobs: jobs.length },
        'worker died',
      );
    }
    this.#onExit(exit);
    if (this.#stopping) this.#checkEmpty();
    else slot.restart = setTimeout(() => this.#fork(slot), this.#backoff(slot));
  }

  #reasonOf(slot: Slot, code: number | null, signal: string | null): ExitReason {
    if (slot.recycling) return 'hung';
    // V8 aborts the process when its heap limit is reached.
    if (signal === 'SIGABRT' || code === 134) return 'oom';
    if (signal) return 'signal';
    return code === 0 ? 'graceful' : 'exit';
  }

  #backoff(slot: Slot): number {
    return slot.quickDeaths <= 1 ? 0 : Math.min(250 * 2 ** (slot.quickDeaths - 1), MAX_BACKOFF_MS);
  }

  #checkEmpty(): void {
    if (this.#slots.every((slot) => slot.worker === undefined)) this.#empty?.();
  }
}
