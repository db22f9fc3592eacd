// How long a scrape of /metrics takes: 2, 8 and 16 workers that count all the time, the same with one blocked, and 8
// workers that have seen 10,000 datasets.
// Run alone: node dist/test/bench/scrape.js
import { pathToFileURL } from 'node:url';
import { createPool, cumulative } from '../metrics/pool.ts';

/** One line of the table. Times in ms. */
export type ScrapeBench = {
  readonly workers: number;
  readonly blocked: boolean;
  readonly datasets: number;
  readonly scrapes: number;
  readonly failed: number;
  readonly p50: number;
  readonly p99: number;
  readonly series: number;
  readonly bytes: number;
  /** CPU of the primary for one scrape, ms. */
  readonly cpu: number;
};

const PROMETHEUS = 'application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5';

/** The goals: a scrape never fails; p99 ≤ 100 ms, ≤ 600 ms with one blocked worker. */
export async function benchScrape(
  sizes: readonly number[] = [2, 8, 16],
  scrapes?: number,
): Promise<ScrapeBench[]> {
  const results: ScrapeBench[] = [];
  for (const workers of sizes) {
    results.push(await measure(workers, false, 50, scrapes));
    if (scrapes === undefined) results.push(await measure(workers, true, 50, 15));
  }
  if (scrapes === undefined) results.push(await measure(8, false, 10_000));
  return results;
}

async function measure(
  workers: number,
  blocked: boolean,
  datasets: number,
  scrapes = 100,
): Promise<ScrapeBench> {
  const releasers: (() => unknown)[] = [];
  const pool = createPool({ teardown: (releaser) => void releasers.push(releaser) });
  try {
    const forked = await Promise.all(Array.from({ length: workers }, (_, slot) => pool.fork(slot)));
    for (const worker of forked) await pool.order(worker, { do: 'work', datasets, cameras: 12 });
    // the first scrapes meet the flood itself, and close the budget
    for (let warm = 0; warm < 3; warm += 1) await pool.text(PROMETHEUS);
    const [victim] = forked;
    if (blocked && victim !== undefined) await pool.order(victim, { do: 'block', ms: scrapes * 700 + 5000 });
    const times: number[] = [];
    let failed = 0;
    let text = '';
    const cpuBefore = process.cpuUsage();
    for (let scrape = 0; scrape < scrapes; scrape += 1) {
      const start = performance.now();
      const next = await pool.text(PROMETHEUS);
      times.push(performance.now() - start);
      const later = cumulative(next);
      if (text !== '' && [...cumulative(text)].some(([series, value]) => (later.get(series) ?? -1) < value))
        failed += 1;
      if (!next.endsWith('# EOF\n')) failed += 1;
      text = next;
    }
    const cpu = process.cpuUsage(cpuBefore);
    times.sort((a, b) => a - b);
    const at = (quantile: number) =>
      times[Math.min(times.length - 1, Math.floor(quantile * times.length))] ?? 0;
    return {
      workers,
      blocked,
      datasets,
      scrapes,
      failed,
      p50: round(at(0.5)),
      p99: round(at(0.99)),
      series: text.split('\n').filter((line) => line !== '' && !line.startsWith('#')).length,
      bytes: text.length,
      cpu: round((cpu.user + cpu.system) / 1000 / scrapes),
    };
  } finally {
    for (const releaser of releasers) releaser();
  }
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const results = await benchScrape();
  console.table(results);
  const missed = results.filter(({ blocked, p99, failed }) => failed > 0 || p99 > (blocked ? 600 : 100));
  process.exitCode = missed.length === 0 ? 0 : 1;
  process.exit();
}
