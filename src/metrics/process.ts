import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Registry } from 'prom-client';
import { catalogue } from './catalogue.ts';
import { counter, gauge } from './define.ts';

/** What runs. */
export type BuildInfo = { readonly version: string; readonly revision: string };

/** `roboflow_build_info`, always 1. */
export function createBuildInfo(registry: Registry, build: BuildInfo): void {
  gauge(registry, catalogue.buildInfo).set({ ...build, node: process.versions.node }, 1);
}

/** The primary's pool of workers. Slots, busy and restarts are fed by whoever forks. */
export function createPoolMetrics(registry: Registry) {
  return {
    slots: gauge(registry, catalogue.workerSlots),
    busy: gauge(registry, catalogue.workersBusy),
    restarts: counter(registry, catalogue.workerRestarts),
  };
}

/** Memory, CPU and event loop of the worker in `slot`, read when a snapshot is taken. */
export function createSlotMetrics(registry: Registry, slot: number) {
  const worker = String(slot);
  const memory = gauge(registry, catalogue.workerMemory);
  const lag = gauge(registry, catalogue.workerLag);
  const cpu = counter(registry, catalogue.workerCpu);
  cpu.inc({ worker }, 0);
  const delay = monitorEventLoopDelay({ resolution: 10 });
  delay.enable();
  let counted = 0;
  let since = performance.now();
  return {
    /** Brings the values up to date; called before each snapshot. */
    refresh(): void {
      memory.set({ worker }, process.memoryUsage.rss());
      const { user, system } = process.cpuUsage();
      const total = (user + system) / 1e6;
      cpu.inc({ worker }, Math.max(0, total - counted));
      counted = total;
      const now = performance.now();
      // a window shorter than this has too few samples to say anything of its 99th percentile
      if (now - since < 1000 && delay.count < 100) return;
      lag.set({ worker }, delay.percentile(99) / 1e9);
      delay.reset();
      since = now;
    },
    stop(): void {
      delay.disable();
    },
  };
}

/**
 * How late the event loop of this process ran at worst since the last two readings; made for liveness.
 * The timer resolution (20 ms) is part of the value.
 */
export function watchEventLoop(): { lagSeconds(): number; stop(): void } {
  const delay = monitorEventLoopDelay({ resolution: 20 });
  delay.enable();
  let previous = 0;
  const timer = setInterval(() => {
    previous = delay.max / 1e9;
    delay.reset();
  }, 10_000);
  timer.unref();
  return {
    lagSeconds: () => Math.max(previous, delay.count > 0 ? delay.max / 1e9 : 0),
    stop() {
      clearInterval(timer);
      delay.disable();
    },
  };
}
