import { execFileSync } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { startPods, type Pods } from '../helpers/pods.ts';
import type { Owner, RunningService } from '../helpers/service.ts';

/** How fast so many pods, each held to a core of its own, convert the same batch. */
export type FleetRow = {
  readonly pods: number;
  readonly episodesPerMinute: number;
  readonly timesOnePod: number;
};

/** Pods of one slot, 1 and then as many as there are cores (at most 4), around one Redis and one S3 server. */
export async function benchFleet(episodes = 24): Promise<FleetRow[]> {
  const ends: (() => unknown)[] = [];
  const owner: Owner = {
    passed: true,
    log: (text) => console.log(text),
    teardown: (end) => void ends.push(end),
  };
  const folder = await mkdtemp(join(tmpdir(), 'roboflow-bench-'));
  try {
    const pods = await startPods(owner, folder, { CACHE_MAX_BYTES: '0' });
    if (pods === undefined) throw new Error('there is no S3 server to be had');
    const recordings = await pods.upload(Array.from({ length: episodes }, () => 5));
    const api = await pods.start(0);
    const rows: FleetRow[] = [];
    for (const count of new Set([1, Math.min(4, availableParallelism())])) {
      const rate = (episodes * 60) / (await secondsOf(pods, api, count, recordings));
      rows.push({
        pods: count,
        episodesPerMinute: rate,
        timesOnePod: rate / (rows[0]?.episodesPerMinute ?? rate),
      });
    }
    return rows;
  } finally {
    for (const end of ends.reverse()) await end();
    await rm(folder, { recursive: true, force: true });
  }
}

async function secondsOf(
  pods: Pods,
  api: RunningService,
  count: number,
  recordings: unknown,
): Promise<number> {
  const fleet = await Promise.all(Array.from({ length: count }, () => pods.start(1)));
  for (const [core, pod] of fleet.entries()) {
    // Encoders inherit it from the worker that starts them.
    for (const pid of [pod.process.pid ?? 0, ...(await pod.workers())]) {
      execFileSync('taskset', ['--all-tasks', '--cpu-list', '--pid', String(core), String(pid)], {
        stdio: 'ignore',
      });
    }
  }
  const datasetId = `fleet-${count}`;
  const started = performance.now();
  const request = { datasetId, output: pods.output(datasetId), config: pods.config, recordings };
  const { status, text } = await api.post('/v1/datasets', request);
  if (status !== 202) throw new Error(text);
  for (;;) {
    const { state } = (await api.get<{ state: string }>(`/v1/datasets/${datasetId}`)).body;
    if (state === 'completed') break;
    if (['failed', 'partial', 'cancelled'].includes(state)) throw new Error(`the batch ended as ${state}`);
    await sleep(50);
  }
  const seconds = (performance.now() - started) / 1000;
  await Promise.all(fleet.map((pod) => pod.end('SIGTERM')));
  return seconds;
}
