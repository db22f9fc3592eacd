import { Redis } from 'ioredis';
import type { Log } from '../conversion/types.ts';
import { StorageError, toError } from '../errors.ts';

/**
 * Connections to Redis. Workers are patient: they wait for Redis to come back, however long that takes.
 * Producers and the API fail fast: nothing is queued while Redis is away and every command has a deadline.
 */

export type RedisSettings = {
  readonly url: string;
  /** Longest wait of a connection that fails fast for the answer to one command; default 1.8 s. */
  readonly commandTimeoutMs?: number;
};

/** Oldest Redis with all commands the queues use. */
const MINIMUM_VERSION = [6, 2] as const;
const COMMAND_TIMEOUT_MS = 1800;

/** Longest an API call waits for a connection, and for its answer: below 3 s together. */
const CONNECT_TIMEOUT_MS = 1000;
const ANSWER_TIMEOUT_MS = 2500;

/** Reconnects within 2 s of Redis coming back, for ever. */
const retryStrategy = (attempt: number) => Math.min(attempt * 200, 2000);

/** A primary that became a replica keeps its clients; behind the same address there may be a new primary. */
const reconnectOnError = (error: Error) => error.message.startsWith('READONLY');

/** For workers: commands wait until Redis is back. Duplicates of it serve as blocking connections. */
export function connectPatient(settings: RedisSettings, name: string, log: Log): Redis {
  const redis = new Redis(settings.url, {
    connectionName: name,
    maxRetriesPerRequest: null,
    enableReadyCheck: true,
    retryStrategy,
    reconnectOnError,
  });
  return watched(endable(redis), log);
}

/** For producers and the API: commands fail at once while Redis is away, and soon when it hangs. */
export function connectFailFast(settings: RedisSettings, name: string, log: Log): Redis {
  return watched(
    new Redis(settings.url, {
      connectionName: name,
      maxRetriesPerRequest: null,
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      commandTimeout: settings.commandTimeoutMs ?? COMMAND_TIMEOUT_MS,
      connectTimeout: COMMAND_TIMEOUT_MS,
      retryStrategy,
      reconnectOnError,
    }),
    log,
  );
}

/**
 * Lets a connection, and all duplicates of it, be ended while it pauses between two attempts to connect. There ioredis
 * only drops its timer: it stays `reconnecting` for ever, its commands never settle and `end` never comes, for which
 * BullMQ waits when a worker closes. An attempt that is given up before it has a socket ends it as it should.
 */
function endable(redis: Redis): Redis {
  const disconnect = redis.disconnect.bind(redis);
  const duplicate = redis.duplicate.bind(redis);
  redis.disconnect = (reconnect = false) => {
    const pausing = redis.status === 'reconnecting';
    disconnect(reconnect);
    if (reconnect || !pausing) return;
    redis.connect().catch(() => undefined);
    disconnect();
  };
  redis.duplicate = ((override) => endable(duplicate(override))) as Redis['duplicate'];
  return redis;
}

function watched(redis: Redis, log: Log): Redis {
  let away = false;
  redis.on('error', (error: Error) => {
    if (away) return;
    away = true;
    log.warn({ err: error }, 'redis is away');
  });
  redis.on('ready', () => {
    if (away) log.info({}, 'redis is back');
    away = false;
  });
  return redis;
}

/**
 * Runs `work` against a fail-fast connection: waits for the connection no longer than 1 s, for the whole answer no longer
 * than `timeoutMs`, and turns whatever Redis did into a retryable `StorageError`. Single commands have 1.8 s anyway, so
 * work of many commands may be given longer and still fails fast.
 */
export async function answered<T>(
  redis: Redis,
  what: string,
  work: () => Promise<T>,
  timeoutMs = ANSWER_TIMEOUT_MS,
): Promise<T> {
  try {
    await becomesReady(redis, AbortSignal.timeout(CONNECT_TIMEOUT_MS));
    return await expires(work(), AbortSignal.timeout(timeoutMs));
  } catch (thrown) {
    throw redisFailure(thrown, what) ?? thrown;
  }
}

/** The failure as a `StorageError` when Redis is its cause, else `undefined`. */
export function redisFailure(thrown: unknown, what: string): StorageError | undefined {
  // Another store's failure, or Redis's that was told already.
  if (thrown instanceof StorageError) return undefined;
  const error = toError(thrown);
  const timedOut = error.message === 'Command timed out' || error.name === 'TimeoutError';
  const gone =
    /Connection is closed|enableOfflineQueue|ECONN|EPIPE|ENOTFOUND|EAI_AGAIN|MaxRetriesPerRequest|Connection ended/.test(
      `${error.name} ${error.message}`,
    );
  const refused = isRefusal(error);
  if (!timedOut && !gone && !refused) return undefined;
  return new StorageError(
    `expected Redis to ${what}; ${timedOut ? `it did not answer in time` : refused ? error.message.slice(0, 200) : 'it cannot be reached'}`,
    { retryable: true, reason: timedOut ? 'timeout' : refused ? 'server_error' : 'network', cause: error },
  );
}

/** Whether Redis is there and refuses, for now, what it is asked: it is full, a replica, loading, without rights. */
export function isRefusal(error: Error): boolean {
  return (
    error.name === 'ReplyError' &&
    /^(OOM|READONLY|MISCONF|NOREPLICAS|LOADING|MASTERDOWN|BUSY|CLUSTERDOWN|NOAUTH|WRONGPASS|NOPERM)/.test(
      error.message,
    )
  );
}

async function becomesReady(redis: Redis, signal: AbortSignal): Promise<void> {
  if (redis.status === 'ready') return;
  if (redis.status === 'end') throw new Error('Connection is closed');
  let ready: (() => void) | undefined;
  try {
    await expires(new Promise<void>((resolve) => redis.once('ready', (ready = () => resolve()))), signal);
  } finally {
    if (ready) redis.off('ready', ready);
  }
}

async function expires<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  let onAbort: (() => void) | undefined;
  const expired = new Promise<never>((_, reject) => {
    onAbort = () => reject(toError(signal.reason));
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([work, expired]);
  } finally {
    if (onAbort) signal.removeEventListener('abort', onAbort);
  }
}

/** What Redis says of itself. */
export type RedisReport = {
  readonly latencyMs: number;
  readonly version: string;
  /** `maxmemory-policy`; `unknown` where the server hides its configuration. */
  readonly policy: string;
  readonly aof: boolean;
  /** Why it cannot hold jobs, in words: it is too old, or it evicts. */
  readonly faults: readonly string[];
};

/**
 * Asks Redis for its health; rejects with `StorageError` when it does not answer, or does not take a write (to `key`): it is
 * full, or became a replica.
 */
export async function redisProbe(redis: Redis, key: string): Promise<RedisReport> {
  return await answered(redis, 'answer a ping and take a write', async () => {
    const started = performance.now();
    await redis.ping();
    const latencyMs = Math.round((performance.now() - started) * 100) / 100;
    await redis.set(key, '', 'EX', 60);
    const info = fieldsOf(await redis.info());
    const version = info.get('valkey_version') ?? info.get('redis_version') ?? '0.0.0';
    const policy = info.get('maxmemory_policy') ?? 'unknown';
    const faults: string[] = [];
    if (isOlder(version)) faults.push(`expected Redis >= ${MINIMUM_VERSION.join('.')}, found ${version}`);
    if (policy !== 'noeviction' && policy !== 'unknown') {
      faults.push(
        `expected the maxmemory-policy noeviction, found ${policy}: it deletes jobs and locks (CONFIG SET maxmemory-policy noeviction)`,
      );
    }
    return {
      latencyMs,
      version,
      policy,
      aof: info.get('aof_enabled') === '1',
      faults,
    };
  });
}

function fieldsOf(info: string): Map<string, string> {
  return new Map(
    info.split(/\r?\n/).flatMap((line): [string, string][] => {
      const colon = line.indexOf(':');
      return colon < 1 ? [] : [[line.slice(0, colon), line.slice(colon + 1)]];
    }),
  );
}

function isOlder(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return major < MINIMUM_VERSION[0] || (major === MINIMUM_VERSION[0] && minor < MINIMUM_VERSION[1]);
}
