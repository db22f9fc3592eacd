import type { Log } from '../conversion/types.ts';
import { toError } from '../errors.ts';
import type { Fleet } from './fleet.ts';

/** A worker that idles this long while jobs wait does not consume. */
const STUCK_MS = 120_000;
const INTERVAL_MS = 10_000;
/** After this many replacements without a job in between, only a new pod can help. */
const HOPELESS = 2;

/** What the watch needs to know of the queue. */
export type QueueLoad = { readonly waiting: number; readonly paused: boolean };

/**
 * Notices workers that are alive but take no jobs although some wait, and replaces them one at a time. Answers for the
 * health report.
 */
export function watchConsumption(options: {
  readonly fleet: Fleet;
  readonly load: () => Promise<QueueLoad>;
  readonly log: Log;
  readonly stuckMs?: number;
  readonly intervalMs?: number;
}) {
  const { fleet, load, log, stuckMs = STUCK_MS, intervalMs = INTERVAL_MS } = options;
  let waitingSince: number | undefined;
  let replaced = 0;
  let activityBefore: number | undefined;

  const stuckSlots = () => {
    if (waitingSince === undefined) return [];
    const before = Date.now() - stuckMs;
    return waitingSince > before ? [] : fleet.idle().filter(({ since }) => since < before);
  };

  const look = async () => {
    let state: QueueLoad;
    try {
      state = await load();
    } catch (thrown) {
      // Redis is away: nobody can consume, and the health of Redis says so.
      log.debug({ err: toError(thrown) }, 'queue could not be counted');
      waitingSince = undefined;
      return;
    }
    if (state.waiting === 0 || state.paused) waitingSince = undefined;
    else waitingSince ??= Date.now();
    if (fleet.lastActivity !== activityBefore) replaced = 0;
    const [stuck] = stuckSlots();
    if (!stuck || replaced >= HOPELESS) return;
    log.error(
      { slot: stuck.slot, waiting: state.waiting },
      'worker takes no jobs although some wait; replacing it',
    );
    replaced++;
    fleet.recycle(stuck.slot);
    activityBefore = fleet.lastActivity;
  };
  const timer = setInterval(() => void look(), intervalMs);
  timer.unref();
  return {
    reading: () => ({
      lastActivitySeconds:
        fleet.lastActivity === undefined ? null : Math.round((Date.now() - fleet.lastActivity) / 1000),
      stuck: stuckSlots().length > 0,
      hopeless: replaced >= HOPELESS && stuckSlots().length > 0,
    }),
    stop: () => clearInterval(timer),
  };
}
