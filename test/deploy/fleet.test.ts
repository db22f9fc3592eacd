import { setTimeout as pause } from 'node:timers/promises';
import test from 'ava';
import { temporaryFolder } from '../helpers/conversion.ts';
import { startPods } from '../helpers/pods.ts';
import { type RunningService, untilAsync } from '../helpers/service.ts';

type Dataset = {
  readonly state: string;
  readonly frames: number;
  readonly episodes: { readonly total: number; readonly completed: number };
  readonly failures: readonly unknown[];
};
type Jobs = { readonly items: readonly { readonly state: string; readonly attempts: number }[] };

/** The batch, and what is added to it once all pods are there: starting them may take longer than the batch. */
const first = 6;
const episodes = 18;
/** The last is so long that it runs alone in the end, wherever it is handed to. */
const frames = Array.from({ length: episodes }, (_, index) => (index === episodes - 1 ? 900 : 120));
const slots = 1;
const bounds = { min: 1, max: 4 };

/** Episodes that a pod converted, and converts now. */
async function work(pod: RunningService): Promise<{ converted: number; active: number }> {
  const { text } = await pod.get('/metrics');
  const sum = (sample: RegExp) =>
    [...text.matchAll(sample)].reduce((total, match) => total + Number(match[1]), 0);
  return {
    converted: sum(/^roboflow_episodes_processed_total\{[^}]*status="completed"[^}]*\} (\d+)$/gm),
    active: sum(/^roboflow_active_conversions (\d+)$/gm),
  };
}

test.serial(
  'a fleet that follows /v1/scaling, 1 → 4 → 1 in a batch, loses nothing, and drained pods burn no attempts',
  async (t) => {
    t.timeout(300_000);
    // A drained pod hands back what it does.
    const pods = await startPods(t, await temporaryFolder(t), { SHUTDOWN_GRACE_SECONDS: '0' });
    if (pods === undefined) {
      t.log('skipped: there is no S3 server to be had');
      t.pass();
      return;
    }
    const api = await pods.start(0);
    const running: RunningService[] = [];
    const drained: {
      pod: RunningService;
      converted: number;
      tookPart: boolean;
      exit: Promise<number | string | null>;
    }[] = [];
    const sizes: number[] = [];
    /** Nobody asks which pod goes: the worst one does, which is busy. */
    const leave = async () => {
      const works = await Promise.all(running.map(work));
      const victim = Math.max(
        0,
        works.findIndex(({ active }) => active > 0),
      );
      const [pod] = running.splice(victim, 1) as [RunningService];
      const { converted, active } = works[victim] as { converted: number; active: number };
      drained.push({ pod, converted, tookPart: converted + active > 0, exit: pod.end('SIGTERM') });
    };
    const scaleTo = async (size: number) => {
      const missing = Math.max(0, size - running.length);
      running.push(...(await Promise.all(Array.from({ length: missing }, () => pods.start(slots)))));
      while (running.length > size) await leave();
      if (sizes.at(-1) !== running.length) sizes.push(running.length);
    };

    const recordings = await pods.upload(frames.map((count) => count / 30));
    const rest = recordings.splice(first);
    const request = { datasetId: 'fleet', output: pods.output('fleet'), config: pods.config, recordings };
    const answer = await api.post('/v1/datasets', request);
    t.is(answer.status, 202, answer.text);

    // As KEDA does: value / slots, rounded up, between the bounds. Its first look comes when one pod has done something.
    await scaleTo(bounds.min);
    const wanted: number[] = [];
    let dataset: Dataset;
    for (;;) {
      dataset = (await api.get<Dataset>('/v1/datasets/fleet')).body;
      if (!['planning', 'converting', 'finalizing'].includes(dataset.state)) break;
      const { value } = (await api.get<{ value: number }>('/v1/scaling')).body;
      if (dataset.episodes.completed > 0) {
        wanted.push(Math.min(bounds.max, Math.max(bounds.min, Math.ceil(value / slots))));
        await scaleTo(wanted.at(-1) as number);
        if (running.length === bounds.max && rest.length > 0) {
          const more = { recordings: rest.splice(0) };
          const added = await api.post('/v1/datasets/fleet/episodes', more);
          t.is(added.status, 202, added.text);
          // Also where the batch has ended meanwhile.
          await untilAsync(
            async () => (await api.get<Dataset>('/v1/datasets/fleet')).body.state === 'converting',
          );
        }
      }
      await pause(100);
    }
    await scaleTo(bounds.min);
    // The dataset's own job ends a moment after the dataset.
    await untilAsync(async () => (await api.get<{ value: number }>('/v1/scaling')).body.value === 0);
    const { items } = (await api.get<Jobs>('/v1/jobs?dataset=fleet&limit=100')).body;
    await scaleTo(0);
    const exits = await Promise.all(drained.map(({ exit }) => exit));
    t.log(`pods: ${sizes.join(' → ')}; episodes by pod: ${drained.map((gone) => gone.converted).join(', ')}`);

    t.is(dataset.state, 'completed', JSON.stringify(dataset.failures));
    const allFrames = frames.reduce((sum, count) => sum + count, 0);
    t.deepEqual([dataset.episodes.completed, dataset.frames], [episodes, allFrames]);
    t.is(Math.max(...wanted), bounds.max);
    t.is(Math.max(...sizes), bounds.max);
    t.deepEqual([sizes[0], sizes.at(-2), sizes.at(-1)], [1, 1, 0]);
    t.deepEqual(
      items.map(({ state, attempts }) => `${state} ${attempts}`),
      Array.from({ length: episodes }, () => 'completed 1'),
    );
    t.deepEqual([...new Set(exits)], [0]);
    t.true(drained.filter(({ tookPart }) => tookPart).length >= 3, 'the pods that were added did nothing');
    const handedBack = drained.filter(({ pod }) => pod.log().includes('"msg":"job handed back"'));
    t.true(handedBack.length > 0, 'no pod was drained in the middle of a conversion');
  },
);
