import test from 'ava';
import { Registry } from 'prom-client';
import { ClusterMetrics } from '../../src/metrics/cluster.ts';
import { createMetrics } from '../../src/metrics/index.ts';
import { LabelBudget, normalise } from '../../src/metrics/label-budget.ts';
import { createExposition } from '../../src/metrics/server.ts';
import { createPool, valueOf } from './pool.ts';

const EPISODES = 'roboflow_episodes_processed_total';

/** Sum of the series of `name` that have all of `labels` in their text. */
function sumOf(text: string, name: string, ...labels: string[]): number {
  return text
    .split('\n')
    .filter((line) => line.startsWith(`${name}{`) && labels.every((label) => line.includes(label)))
    .reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}

test('10,000 dataset ids on 8 workers: bounded series, an exact sum, and a scrape that stays quick', async (t) => {
  const pool = createPool(t);
  const workers = await Promise.all(Array.from({ length: 8 }, (_, slot) => pool.fork(slot)));
  const ids = Array.from({ length: 10_000 }, (_, index) => `dataset-${index}`);
  await Promise.all(
    workers.map((worker, slot) =>
      pool.order(worker, { do: 'count', frames: 1, datasets: ids.filter((_, index) => index % 8 === slot) }),
    ),
  );
  // the first scrapes meet the flood itself, and close the budget
  for (let warm = 0; warm < 3; warm += 1) await pool.text();
  const times: number[] = [];
  let text = '';
  for (let scrape = 0; scrape < 20; scrape += 1) {
    const start = performance.now();
    text = await pool.text();
    times.push(performance.now() - start);
  }
  times.sort((a, b) => a - b);
  t.log(
    `scrape of 8 workers after 10,000 datasets: p50 ${times[9]?.toFixed(1)} ms, max ${times[19]?.toFixed(1)} ms`,
  );
  t.true((times[9] ?? Infinity) < 100, `median ${times[9]} ms`);
  const series = text.split('\n').filter((line) => line.startsWith(`${EPISODES}{`));
  t.is(series.length, 51 * 4);
  t.is(sumOf(text, EPISODES, 'status="completed"'), 10_000);
  t.is(sumOf(text, EPISODES, 'status="completed"', '__other__'), 9950);
  t.is(valueOf(text, 'roboflow_label_overflow_total{label="dataset_id"}'), 9950);

  // a late id has no place, an early one keeps its own
  const admitted = /dataset_id="(dataset-\d+)"/.exec(series.join('\n'))?.[1] ?? '';
  const [worker] = workers;
  if (worker === undefined) throw new Error('no worker');
  await pool.order(worker, { do: 'count', frames: 1, datasets: ['late', admitted] });
  const after = await pool.text();
  t.is(valueOf(after, `${EPISODES}{dataset_id="${admitted}",status="completed"}`), 2);
  t.is(sumOf(after, EPISODES, 'status="completed"', '__other__'), 9951);
  await pool.kill(worker);
  t.is(sumOf(await pool.text(), EPISODES, 'status="completed"'), 10_002);
});

test('the primary folds its own flood as well', async (t) => {
  const registry = new Registry();
  const { conversion, video } = createMetrics(registry);
  const exposition = createExposition(
    new ClusterMetrics({ registry, cacheMs: 0, budget: new LabelBudget({ dataset_id: 2, camera: 1 }) }),
  );
  for (const id of ['a', 'b', 'c', 'd'])
    conversion.episodesProcessed.inc({ dataset_id: id, status: 'failed' });
  for (const camera of ['front', 'wrist']) video.framesEncoded.inc({ camera }, 10);
  await exposition.scrape('');
  const { body } = await exposition.scrape('');
  const shown = (id: string) => valueOf(body, `${EPISODES}{dataset_id="${id}",status="failed"}`);
  t.deepEqual(['a', 'b', 'c', '__other__'].map(shown), [1, 1, undefined, 2]);
  t.is(valueOf(body, 'roboflow_video_frames_encoded_total{camera="front"}'), 10);
  t.is(valueOf(body, 'roboflow_video_frames_encoded_total{camera="__other__"}'), 10);
  t.is(valueOf(body, 'roboflow_label_overflow_total{label="dataset_id"}'), 2);
  const own = await registry.metrics();
  t.false(own.includes('dataset_id="d"'), 'the registry itself is folded');
});

const NAMES: [string, string][] = [
  ['pick_place-1.0', 'pick_place-1.0'],
  ['pick place #1', 'pick_place__1'],
  ['a"} 1\nevil_metric 2', 'a___1_evil_metric_2'],
  ['', '_'],
  ['é', '_'],
  ['x'.repeat(100), 'x'.repeat(64)],
];
for (const [given, shown] of NAMES) {
  test(`the label value ${JSON.stringify(given.slice(0, 30))} is shown as ${shown.slice(0, 30)}`, (t) => {
    t.is(normalise(given), shown);
  });
}

test('two values that look the same once normalised are added up', (t) => {
  const series = (camera: string, value: number) => ({ labels: { camera }, value });
  const metric = {
    name: 'roboflow_video_frames_encoded_total',
    help: 'x',
    type: 'counter' as const,
    aggregator: 'sum',
    values: [series('cam 1', 3), series('cam/1', 4)],
  };
  t.deepEqual(new LabelBudget().apply([metric])[0]?.values, [series('cam_1', 7)]);
});
