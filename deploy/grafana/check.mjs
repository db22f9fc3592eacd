import '../local/node-version.mjs';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { startKept } from '../local/kept-process.mjs';
import { freePort } from '../local/redis.mjs';
import { startService } from '../local/service.mjs';
import { setUp } from '../local/setup.mjs';
import { SetupError, fail, projectRoot, say } from '../local/steps.mjs';

/**
 * `npm run dashboards:check`: runs the real service on the demo's recordings while a real Prometheus scrapes it every
 * second, and meanwhile kills five workers and stops one for a while. Then asks that Prometheus every query of every
 * panel and every rule. Fails when one gives no data or an error, when a metric was never fed, or when the deaths show in
 * the numbers. The same answers are drawn to `demo/dashboards/`.
 */

/** The shortest run: rates and rules need some minutes' worth of samples to say something. */
const SECONDS = 60;
/** Workers killed during the batches, one a batch, so that no recording is hit twice and given up for it. */
const KILLS = 5;
/** How long one worker is stopped in the middle of a batch. */
const STOP_MS = 9000;
const pictures = join(projectRoot, 'demo', 'dashboards');
const work = mkdtempSync(join(tmpdir(), 'roboflow-dashboards-'));
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const compiled = (path) => import(pathToFileURL(join(projectRoot, 'dist', 'deploy', path)).href);

async function main(release) {
  const { programs, startRedis } = await setUp({ optional: ['promtool'] });
  if (!programs.has('promtool'))
    throw new SetupError('This check needs Prometheus (Debian: apt install prometheus).');
  const { writeDemoRecordings } = await compiled('local/demo-recordings.js');
  const { prometheusApi } = await compiled('grafana/prometheus-api.js');
  const { evaluateDashboards, readTruth, unfedMetrics } = await compiled('grafana/evaluate.js');

  mkdirSync(join(work, 'recordings'));
  const recordings = await writeDemoRecordings(join(work, 'recordings'));
  mkdirSync(join(work, 'recordings', 'flawed'));
  const flawed = await writeDemoRecordings(join(work, 'recordings', 'flawed'), spoilPicture);
  const damaged = join(work, 'recordings', 'damaged.mcap');
  writeFileSync(damaged, readFileSync(recordings[0]).subarray(0, 20));
  const redis = await startRedis();
  release(redis.stop);
  const service = await startService({
    redis,
    folder: work,
    work,
    log: join(work, 'service.log'),
    logFormat: 'json',
    signal: new AbortController().signal,
  });
  release(service.stop);
  const prometheus = await startPrometheus(
    join(dirname(programs.get('promtool')), 'prometheus'),
    service,
    release,
  );
  const api = prometheusApi(prometheus);
  say(`the service runs at ${service.url}, Prometheus at ${prometheus}; batches for at least ${SECONDS} s …`);

  // Prometheus takes some seconds to look at a new target; what is counted before is no increase to it
  await until('the first scrape', async () => {
    const [up] = await api.instant('up == 1', Date.now() / 1000);
    if (!up) throw new Error('not scraped yet');
  });
  const start = Date.now() / 1000;
  const given = { recordings, flawed, damaged };
  const { kills, ...counted } = await runBatches(service, given, start + SECONDS);
  // rules are evaluated every 5 s, rates look back 5 s
  await pause(6000);
  const window = { start, end: Date.now() / 1000, step: 1 };

  const boards = await evaluateDashboards(api, window);
  const faults = boards.flatMap(({ title, rows }) =>
    rows.flatMap((row) =>
      row.panels.flatMap(({ panel, faults: own }) =>
        own.map((fault) => `${title} / ${panel.title}: ${fault}`),
      ),
    ),
  );
  const rules = await api.rules();
  for (const rule of rules) {
    if (rule.health !== 'ok') faults.push(`rule ${rule.name} is ${rule.health}: ${rule.lastError}`);
  }
  for (const name of await unfedMetrics(api, window)) faults.push(`${name} was never fed`);
  const truth = await readTruth(api, window);
  say(
    `${kills} workers killed, one stopped for ${STOP_MS / 1000} s; of ${counted.completed} episodes completed Prometheus counts ` +
      `${truth.completed.last} (increase ${truth.completed.increase.toFixed(2)}), of ${counted.episodes} tried ` +
      `${truth.episodes.last} (increase ${truth.episodes.increase.toFixed(2)}), of ${counted.rows} rows ${truth.rows.last} ` +
      `(increase ${truth.rows.increase.toFixed(0)}); ${truth.resets.length} counters fell, ${truth.failedScrapes} of ${truth.scrapes} scrapes failed, ` +
      `p99 ${(truth.p99ScrapeSeconds * 1000).toFixed(0)} ms`,
  );
  faults.push(...spoilt(truth, counted));
  faults.push(...(await lint(programs.get('promtool'), service)));
  await draw(boards, window);

  const panels = boards.reduce(
    (sum, { rows }) => sum + rows.reduce((count, row) => count + row.panels.length, 0),
    0,
  );
  const firing = rules.filter((rule) => rule.firing).map((rule) => rule.name);
  if (!firing.includes('RoboflowDeadLetter'))
    faults.push('an episode failed, and RoboflowDeadLetter is silent');
  say(`${panels} panels and ${rules.length} rules asked; firing: ${firing.join(', ') || 'none'}`);
  say(`pictures: ${relative(process.cwd(), pictures) || '.'}`);
  if (faults.length > 0) throw new SetupError(`${faults.length} faults:\n  ${faults.join('\n  ')}`);
  say('every panel shows data and every rule evaluates');
}

/** Every fortieth picture of the front camera without its end, as a full disk leaves it. */
function spoilPicture(topic, number, data) {
  return topic.startsWith('/cam_front') && number % 40 === 20 ? data.with(-1, 0).with(-2, 0) : data;
}

/** What `promtool check metrics` has against the answer of the service. */
async function lint(promtool, service) {
  const answer = await fetch(`${service.url}/metrics`);
  const { status, stdout, stderr } = spawnSync(promtool, ['check', 'metrics'], {
    input: await answer.text(),
    encoding: 'utf8',
  });
  return status === 0 ? [] : [`promtool check metrics: ${stdout}${stderr}`];
}

/** What deaths must not do to the numbers. */
function spoilt(truth, counted) {
  const faults = [];
  // an episode that is completed is counted exactly; what a killed worker had not told may be missing elsewhere
  const off = (what, increase, value) =>
    Math.abs(increase - value) > (what === 'completed' ? 1e-6 : 0.03 * value);
  if (truth.failedScrapes > 0) faults.push(`expected every scrape to succeed, ${truth.failedScrapes} failed`);
  for (const name of truth.resets) faults.push(`${name} fell`);
  if (truth.p99ScrapeSeconds > 0.6)
    faults.push(`p99 of the scrapes: expected at most 0.6 s, took ${truth.p99ScrapeSeconds} s`);
  for (const what of ['completed', 'episodes', 'rows']) {
    const { increase, last } = truth[what];
    if (last !== counted[what]) faults.push(`${what}: expected ${counted[what]}, counted ${last}`);
    if (off(what, increase, counted[what]))
      faults.push(`${what}: increase() gives ${increase} instead of ${counted[what]}`);
  }
  return faults;
}

/**
 * Kills a worker that is in the middle of a batch, or stops it for a while when `kind` is `stop`. Resolves with false
 * when the batch ended before.
 */
async function makeTrouble(service, id, kind) {
  for (;;) {
    const { episodes, finishedAt } = await service.request('GET', `/v1/datasets/${id}`);
    if (finishedAt !== null) return false;
    if (episodes.active > 0) break;
    await pause(50);
  }
  const pids = workersOf(service);
  const pid = pids[Math.floor(Math.random() * pids.length)];
  if (kind === 'kill') process.kill(pid, 'SIGKILL');
  else {
    process.kill(pid, 'SIGSTOP');
    await pause(STOP_MS);
    process.kill(pid, 'SIGCONT');
  }
  return true;
}

/** Pids of the newest worker of each slot, as the log has them. */
function workersOf(service) {
  const slots = new Map();
  for (const line of readFileSync(service.log, 'utf8').split('\n')) {
    if (!line.includes('"worker ready"')) continue;
    const { pid, worker } = JSON.parse(line);
    slots.set(worker, pid);
  }
  return [...slots.values()];
}

async function startPrometheus(program, service, release) {
  const port = await freePort();
  const folder = join(work, 'prometheus');
  mkdirSync(folder);
  const config = {
    global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '5s' },
    rule_files: [join(projectRoot, 'deploy', 'prometheus', 'roboflow.rules.yml')],
    scrape_configs: [
      { job_name: 'roboflow-worker', static_configs: [{ targets: [`127.0.0.1:${service.port}`] }] },
    ],
  };
  writeFileSync(join(folder, 'prometheus.yml'), JSON.stringify(config));
  const kept = startKept(program, [
    `--config.file=${join(folder, 'prometheus.yml')}`,
    `--storage.tsdb.path=${join(folder, 'data')}`,
    `--web.listen-address=127.0.0.1:${port}`,
  ]);
  release(kept.stop);
  const url = `http://127.0.0.1:${port}`;
  await until('Prometheus', async () => {
    if (kept.status() !== undefined) throw new SetupError(`Prometheus ended:\n${kept.tail()}`);
    const response = await fetch(`${url}/-/ready`);
    if (!response.ok) throw new Error(`not ready: ${response.status}`);
    return true;
  });
  return url;
}

/**
 * Datasets one after the other until the time is over and enough has died; the third has a recording that cannot be
 * read, and every second one flawed recordings and rules of alignment under which rows are held, interpolated and
 * dropped. Resolves with what the API counted.
 */
async function runBatches(service, { recordings, flawed, damaged }, until) {
  const counted = { completed: 0, episodes: 0, rows: 0, kills: 0 };
  const { parse } = await import('yaml');
  const plain = parse(readFileSync(join(projectRoot, 'deploy', 'local', 'demo.yaml'), 'utf8'));
  const strict = structuredClone(plain);
  strict.tolerate = { undecodable: 0.1 };
  strict.features['observation.state'].align = { method: 'linear' };
  strict.features.action.align = { method: 'hold', max_age: 0.015, missing: 'drop' };
  let stopped = false;
  for (let batch = 1; Date.now() / 1000 < until || counted.kills < KILLS || !stopped; batch++) {
    const id = `batch-${batch}`;
    const [config, paths] = batch % 2 === 0 ? [strict, flawed] : [plain, recordings];
    const sources = paths.map((path) => ({ source: pathToFileURL(path).href }));
    if (batch === 3) sources.push({ source: pathToFileURL(damaged).href });
    await service.request('POST', '/v1/datasets', {
      datasetId: id,
      output: pathToFileURL(join(work, 'datasets', id)).href,
      config,
      recordings: sources,
    });
    if (batch >= 4 && !stopped) stopped = await makeTrouble(service, id, 'stop');
    else if (counted.kills < KILLS && (await makeTrouble(service, id, 'kill'))) counted.kills++;
    for (;;) {
      const { state, episodes, frames, failures } = await service.request('GET', `/v1/datasets/${id}`);
      if (['completed', 'partial', 'failed', 'cancelled'].includes(state)) {
        if (state !== (batch === 3 ? 'partial' : 'completed'))
          throw new Error(`dataset ${id} is ${state}: ${JSON.stringify(failures)}`);
        counted.completed += episodes.completed;
        counted.episodes += episodes.completed + episodes.failed;
        counted.rows += frames;
        break;
      }
      await pause(250);
    }
  }
  return counted;
}

async function draw(boards, window) {
  const { drawDashboard } = await compiled('grafana/picture.js');
  const { default: sharp } = await import('sharp');
  rmSync(pictures, { recursive: true, force: true });
  mkdirSync(pictures, { recursive: true });
  for (const board of boards) {
    const svg = drawDashboard(board, window);
    writeFileSync(join(pictures, `${board.uid}.svg`), svg);
    await sharp(Buffer.from(svg))
      .png()
      .toFile(join(pictures, `${board.uid}.png`));
  }
  const images = boards.map(({ uid, title }) => `<h2>${title}</h2><img src="${uid}.svg" alt="${title}">`);
  writeFileSync(
    join(pictures, 'index.html'),
    `<!doctype html><meta charset="utf-8"><title>Dashboards</title>${images.join('\n')}\n`,
  );
}

async function until(what, attempt) {
  const deadline = Date.now() + 30_000;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (error instanceof SetupError) throw error;
      if (Date.now() > deadline) throw new Error(`${what} was not ready within 30 s`, { cause: error });
    }
    await pause(200);
  }
}

const releasers = [];
try {
  await main((releaser) => releasers.push(releaser));
} catch (error) {
  fail(error);
} finally {
  for (const releaser of releasers.reverse()) await releaser();
  rmSync(work, { recursive: true, force: true });
}
