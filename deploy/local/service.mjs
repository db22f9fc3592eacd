import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { startKept } from './kept-process.mjs';
import { freePort, removeKeys } from './redis.mjs';
import { SetupError, projectRoot } from './steps.mjs';

/**
 * Starts the compiled service, as `npm start` does, for a script of ours: two workers, a free port, a token and a queue
 * prefix of its own, sources and destinations in `folder`, scratch in `work`, its log in the file `log`. Resolves when it
 * is ready; `env` is set beside; `request` speaks JSON, `text` reads a page, `token` is the API's. Rejects with the end of the log when it does not come up. It is
 * stopped by `stop()`, and soon after this process however that ends.
 */
export async function startService({ redis, folder, work, log, logFormat, signal, env = {} }) {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const token = randomBytes(24).toString('hex');
  const prefix = `{roboflow-local-${randomBytes(4).toString('hex')}}`;
  const here = `${pathToFileURL(folder).href}/`;
  const output = openSync(log, 'w');
  const kept = startKept(process.execPath, [join(projectRoot, 'dist', 'src', 'main.js')], {
    cwd: projectRoot,
    graceMs: 20_000,
    output,
    env: {
      ...process.env,
      REDIS_URL: redis.url,
      QUEUE_PREFIX: prefix,
      WORKERS: '2',
      HTTP_HOST: '127.0.0.1',
      HTTP_PORT: String(port),
      API_TOKEN: token,
      METRICS_ENABLED: 'true',
      SOURCE_ROOTS: here,
      DESTINATION_ROOTS: here,
      SCRATCH_DIR: join(work, 'scratch'),
      CACHE_DIR: join(work, 'cache'),
      SHUTDOWN_GRACE_SECONDS: '10',
      LOG_LEVEL: 'info',
      LOG_FORMAT: logFormat,
      ...env,
    },
  });
  closeSync(output);
  const stop = async () => {
    await kept.stop();
    if (!redis.own) await removeKeys(redis.url, prefix);
  };

  const ended = () => {
    if (kept.status() === undefined) return;
    const tail = readFileSync(log, 'utf8').trim().split('\n').slice(-15).join('\n');
    throw new SetupError(`The service ended with status ${kept.status()}; the end of ${log}:\n${tail}`);
  };
  const answer = async (method, path, body) => {
    ended();
    const response = await fetch(`${url}${path}`, {
      method,
      signal: AbortSignal.any([signal, AbortSignal.timeout(10_000)]),
      headers: { authorization: `Bearer ${token}`, ...(body && { 'content-type': 'application/json' }) },
      ...(body && { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${text}`);
    return text;
  };
  const service = {
    url,
    port,
    token,
    log,
    request: async (method, path, body) => JSON.parse(await answer(method, path, body)),
    text: (path) => answer('GET', path),
    stop,
  };
  try {
    await untilReady(answer, ended, signal);
  } catch (error) {
    await stop();
    throw error;
  }
  return service;
}

async function untilReady(answer, ended, signal) {
  const deadline = Date.now() + 60_000;
  for (;;) {
    ended();
    const ready = await answer('GET', '/readyz').catch((error) => error);
    if (typeof ready === 'string') return;
    signal.throwIfAborted();
    if (Date.now() > deadline) throw new Error('the service was not ready within a minute', { cause: ready });
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
