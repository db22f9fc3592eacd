import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { bench } from '../helpers/conversion.ts';
import { demonstration } from '../helpers/demonstration.ts';
import { valueOf } from './pool.ts';

const config = {
  fps: 30,
  clock: 'header',
  features: {
    'observation.images.cam_high': { topic: '/cam_high/image_raw/compressed', type: 'video' },
    'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
    action: { topic: '/joint_commands', field: 'position', names: 'all' },
  },
};
const STAGES = ['plan', 'convert', 'verify', 'upload'];

test('a conversion is counted as its own report tells it, each stage once, and nothing stays in flight', async (t) => {
  const { folder, registry, convert } = await bench(t);
  const source = join(folder, 'a.mcap');
  await writeFile(source, await demonstration({ seconds: 2, cameras: ['cam_high'], jointRate: 10 }));
  const { manifest } = await convert(source, config);
  const text = await registry.metrics();
  for (const stage of STAGES) {
    t.is(valueOf(text, `roboflow_stage_duration_seconds_count{stage="${stage}"}`), 1, stage);
  }
  const { sources, droppedRows } = manifest.alignment;
  const sum = (of: (report: (typeof sources)[number]) => number) =>
    sources.reduce((total, report) => total + of(report), 0);
  t.true(sum(({ held }) => held) > 0);
  t.is(
    valueOf(text, 'roboflow_frames_held_total'),
    sum(({ held }) => held),
  );
  t.is(
    valueOf(text, 'roboflow_frames_interpolated_total'),
    sum(({ interpolated }) => interpolated),
  );
  t.is(valueOf(text, 'roboflow_frames_dropped_total'), droppedRows);
  t.is(
    valueOf(text, 'roboflow_samples_late_total'),
    sum(({ late }) => late),
  );
  t.is(
    valueOf(text, 'roboflow_decode_errors_total'),
    sum(({ undecodable }) => undecodable),
  );
  const seconds = valueOf(text, 'roboflow_recording_seconds_total') ?? 0;
  const frames = manifest.episodes.reduce((total, part) => total + part.frames, 0);
  t.true(Math.abs(seconds - (frames - 1) / 30) < 0.05, `${seconds} s of ${frames} frames`);
  t.is(valueOf(text, 'roboflow_inflight_bytes'), 0);
  t.is(valueOf(text, 'roboflow_active_conversions'), 0);

  const again = await convert(source, config);
  t.is(again.outcome, 'skipped');
  const later = await registry.metrics();
  t.is(valueOf(later, 'roboflow_recording_seconds_total'), seconds);
  t.is(valueOf(later, 'roboflow_stage_duration_seconds_count{stage="plan"}'), 2);
  t.is(valueOf(later, 'roboflow_stage_duration_seconds_count{stage="convert"}'), 1);
});

test('the stage in which a conversion fails is timed, and what it did not complete is not counted', async (t) => {
  const { folder, registry, convert } = await bench(t);
  const source = join(folder, 'broken.mcap');
  await writeFile(source, 'no recording at all');
  await t.throwsAsync(convert(source, config));
  const text = await registry.metrics();
  t.is(valueOf(text, 'roboflow_stage_duration_seconds_count{stage="plan"}'), 1);
  t.is(valueOf(text, 'roboflow_stage_duration_seconds_count{stage="convert"}'), 0);
  t.is(valueOf(text, 'roboflow_recording_seconds_total'), 0);
  t.is(valueOf(text, 'roboflow_active_conversions'), 0);
});
