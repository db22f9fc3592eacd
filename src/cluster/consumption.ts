import type { Log } from '../conversion/types.ts';
import { toError } from '../errors.ts';
import type { Fleet } from './fleet.ts';

/** A worker that idles this long while jobs wait does not consume. */
const STUCK_MS = 120_000;
const INTERVAL_MS = 10_000;
/** A worker whose event loop stands still this long, or as long as a lock where that is longer, does not come back. */
const SILENT_MS = 60_000;
/** After this many replacements without a job in between, only a new pod can help. */
const HOPELESS = 2;

/** What the watch needs to know of the queue. */
export type QueueLoad = { readonly waiting: number; readonly paused: boolean };

/**
 * Notices workers that are alive but take no jobs although some wait, and replaces them one at a time; and workers that
 * say nothing any more, whose jobs have lost their locks. Answers for the health report.
 */
export function watchConsumption(options: {
  readonly fleet: Fleet;
  readonly load: () => Promise<QueueLoad>;
  readonly log: Log;
  /** How long a silent worker keeps its job. */
  readonly lockMs?: number;
  readonly stuckMs?: number;
  readonly silentMs?: number;
  readonly intervalMs?: number;
}) {
  const { fleet, load, log, lockMs = 0, stuckMs = STUCK_MS, intervalMs = INTERVAL_MS } = options;
  const silentMs = options.silentMs ?? Math.max(lockMs, SILENT_MS);
  /** Looks in a row at which a slot was quiet: counted, as a clock also goes on while the whole pod is suspended. */
  let quiet = new Map<number, number>();
  let waitingSince: number | undefined;
  let replaced = 0;
  let activityBefore: number | undefined;

  const stuckSlots = () => {
    if (waitingSince === undefined) return [];
    const before = Date.now() - stuckMs;
    return waitingSince > before ? [] : fleet.idle().filter(({ since }) => since < before);
  };

  const replaceSilent = () => {
    quiet = new Map(fleet.quiet().map((slot) => [slot, (quiet.get(slot) ?? 0) + 1]));
    for (const [slot, looks] of quiet) {
      if (looks * intervalMs <= silentMs) continue;
      log.error(
        { slot, seconds: Math.round((looks * intervalMs) / 1000) },
        'worker stands still; replacing it',
      );
      fleet.recycle(slot);
    }
  };

  const look = async () => {
    replaceSilent();
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
