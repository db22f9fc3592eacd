import './node-version.mjs';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { progressLine } from './progress-line.mjs';
import { startService } from './service.mjs';
import { setUp } from './setup.mjs';
import { SetupError, fail, projectRoot, run, say } from './steps.mjs';

/**
 * `npm run demo [-- FOLDER]`: makes three recordings, starts the real service, enqueues them through its API as a user
 * would, watches, verifies the dataset, draws it, and says where to look next. Everything stays in FOLDER (default
 * `demo/`), and each run replaces what the last one left there.
 */

const folder = resolve(projectRoot, process.argv[2] || 'demo');
const dataset = join(folder, 'dataset');
const shown = (path) => relative(process.cwd(), path) || '.';

async function main(release, signal) {
  const startedAt = Date.now();
  const { startRedis } = await setUp();
  signal.throwIfAborted();

  for (const entry of ['recordings', 'dataset', 'work', 'demo.yaml', 'contact-sheet.png', 'service.log']) {
    rmSync(join(folder, entry), { recursive: true, force: true });
  }
  mkdirSync(join(folder, 'recordings'), { recursive: true });
  copyFileSync(join(projectRoot, 'deploy', 'local', 'demo.yaml'), join(folder, 'demo.yaml'));

  say(
    'making three recordings of a small arm (MCAP; two cameras at 30 Hz, joints at 100 Hz, commands at 50 Hz) …',
  );
  const { writeDemoRecordings } = await compiled('demo-recordings.js');
  const recordings = await writeDemoRecordings(join(folder, 'recordings'));
  signal.throwIfAborted();

  const redis = await startRedis();
  release(redis.stop);
  const service = await startService({
    redis,
    folder,
    work: join(folder, 'work'),
    log: join(folder, 'service.log'),
    logFormat: 'pretty',
    signal,
  });
  release(service.stop);
  say(
    `the service runs at ${service.url}: one primary, two workers, ${redis.own ? 'a private Redis' : 'your Redis'}`,
  );

  const before = Date.now();
  const accepted = await service.request('POST', '/v1/datasets', {
    datasetId: 'demo',
    output: pathToFileURL(dataset).href,
    config: await readConfig(join(folder, 'demo.yaml')),
    recordings: recordings.map((path) => ({ source: pathToFileURL(path).href })),
  });
  say(`POST /v1/datasets: ${accepted.episodes} episodes accepted as run ${accepted.runId}`);
  const result = await watch(service, signal);
  const seconds = ((Date.now() - before) / 1000).toFixed(1);
  const { total, completed } = result.episodes;
  say(`${result.state}: ${completed} of ${total} episodes, ${result.frames} frames in ${seconds} s`);
  for (const failure of result.failures) say(`  ${failure.source}: ${failure.reason}`);
  await showMetrics(service);
  await service.stop();
  await redis.stop();
  if (result.state !== 'completed')
    throw new Error(`the dataset is ${result.state}; see ${shown(service.log)}`);

  const checks = await verify();
  say(`verified: ${checks.length} checks of the dataset passed`);
  const { drawContactSheet } = await compiled('contact-sheet.js');
  await drawContactSheet(dataset, join(folder, 'contact-sheet.png'));
  rmSync(join(folder, 'work'), { recursive: true, force: true });
  farewell(startedAt);
}

function compiled(name) {
  return import(pathToFileURL(join(projectRoot, 'dist', 'deploy', 'local', name)).href);
}

async function readConfig(path) {
  const { parse } = await import('yaml');
  return parse(readFileSync(path, 'utf8'));
}

/** Shows the progress until the run has ended; resolves with the dataset as the API describes it. */
async function watch(service, signal) {
  const line = progressLine(process.stdout);
  for (;;) {
    const [state, jobs] = await Promise.all([
      service.request('GET', '/v1/datasets/demo'),
      service.request('GET', '/v1/jobs?dataset=demo'),
    ]);
    const ended = ['completed', 'partial', 'failed', 'cancelled'].includes(state.state);
    const total = Math.max(state.episodes.total, 1);
    const done = jobs.items.reduce((sum, job) => sum + (job.state === 'completed' ? 1 : job.progress), 0);
    const active = jobs.items.filter((job) => job.state === 'active').map((job) => job.stage);
    const stages = active.length > 0 ? ` (${active.join(', ')})` : '';
    line.show(
      ended ? 1 : done / total,
      `${state.state}${stages}, ${state.episodes.completed} of ${total} episodes`,
    );
    if (ended) {
      line.end();
      return state;
    }
    await pause(200, signal);
  }
}

async function showMetrics(service) {
  const wanted =
    /^roboflow_(episodes_processed_total|frames_processed_total|video_frames_encoded_total)(\{.*\})? ([1-9]\d*)$/;
  const lines = (await service.text('/metrics')).split('\n').filter((line) => wanted.test(line));
  say('GET /metrics counted, among other things:');
  for (const line of lines) say(`  ${line}`);
}

async function verify() {
  const program = join(projectRoot, 'dist', 'src', 'cli.js');
  const text = await run(process.execPath, [program, 'verify', dataset, '--json']);
  const { ok, checks } = JSON.parse(text);
  const failed = checks.filter((check) => !check.ok).map((check) => `  ${check.id}: ${check.message}`);
  if (!ok || failed.length > 0)
    throw new Error(`the dataset does not pass its verification:\n${failed.join('\n')}`);
  return checks;
}

function farewell(startedAt) {
  const path = shown(dataset);
  const recording = shown(join(folder, 'recordings', '1-near.mcap'));
  say(`
Done in ${Math.round((Date.now() - startedAt) / 1000)} s.
  dataset   ${path}   (LeRobot v3.0)
  picture   ${shown(join(folder, 'contact-sheet.png'))}
  config    ${shown(join(folder, 'demo.yaml'))}
  log       ${shown(join(folder, 'service.log'))}

Look further:
  npx roboflow verify ${path}
  npx roboflow report ${path} --out ${shown(join(folder, 'report.html'))}
  npx roboflow inspect ${recording}
  npx roboflow convert ${recording} --config ${shown(join(folder, 'demo.yaml'))} --out ${shown(join(folder, 'one'))}

Your own recordings:
  npx roboflow inspect RECORDING --suggest > mapping.yaml
  npx roboflow convert RECORDING --config mapping.yaml --out my-dataset

The service, with your Redis at REDIS_URL:
  npm start
  curl http://127.0.0.1:8080/health
  curl http://127.0.0.1:8080/metrics`);
}

function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const timer = setTimeout(finish, ms);
    const stopped = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    signal.addEventListener('abort', stopped, { once: true });
    function finish() {
      signal.removeEventListener('abort', stopped);
      resolve();
    }
  });
}

const stopping = new AbortController();
const releasers = [];
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(name, () => {
    if (stopping.signal.aborted) process.exit(130);
    stopping.abort(new SetupError('stopped; everything that ran was taken down'));
  });
}
try {
  await main((releaser) => releasers.push(releaser), stopping.signal);
} catch (error) {
  fail(stopping.signal.aborted ? stopping.signal.reason : error);
  if (stopping.signal.aborted) process.exitCode = 130;
} finally {
  for (const releaser of releasers.reverse()) await releaser();
  if (existsSync(join(folder, 'work'))) rmSync(join(folder, 'work'), { recursive: true, force: true });
}
