// Peak memory of a worker (without ffmpeg) over the length of a recording.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { convertInChild } from './conversion-child.ts';
import { writeLongRecording } from '../helpers/long-recording.ts';

/** Peak in MB after recordings of growing length, converted one after the other in one process; goal ≤ 250. */
export type MemoryBench = { readonly minutes: number; readonly rows: number; readonly peakMB: number };

export async function benchMemory(minutes: readonly number[] = [1, 10, 60]): Promise<MemoryBench[]> {
  const folder = await mkdtemp(join(tmpdir(), 'roboflow-bench-'));
  try {
    const recordings: string[] = [];
    for (const length of minutes) {
      const path = join(folder, `${length}.mcap`);
      await writeLongRecording(path, { seconds: length * 60, cameras: ['cam'], width: 160, height: 120 });
      recordings.push(path);
    }
    const config = {
      fps: 30,
      clock: 'header',
      video: { preset: 'ultrafast' },
      features: {
        'observation.images.cam': { topic: '/cam/image_raw/compressed', type: 'video' },
        'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
      },
    };
    const results = await convertInChild(config, join(folder, 'out'), recordings);
    return results.map(({ frames, peakRssBytes }, i) => ({
      minutes: minutes[i] ?? 0,
      rows: frames,
      peakMB: Math.round(peakRssBytes / 1e6),
    }));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
