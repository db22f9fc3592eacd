// Peak memory of a worker (without ffmpeg) over the length of a recording.
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { workerFlags } from '../../src/cluster/fleet.ts';
import type { ChildResult } from '../helpers/convert-child.ts';
import { writeLongRecording } from '../helpers/long-recording.ts';

/** Peak in MB after recordings of growing length, converted one after the other in one process; goal ≤ 250. */
export type MemoryBench = { readonly minutes: number; readonly rows: number; readonly peakMB: number };

const MINUTES = [1, 10, 60];

export async function benchMemory(): Promise<MemoryBench[]> {
  const folder = await mkdtemp(join(tmpdir(), 'roboflow-bench-'));
  try {
    const recordings: string[] = [];
    for (const minutes of MINUTES) {
      const path = join(folder, `${minutes}.mcap`);
      await writeLongRecording(path, { seconds: minutes * 60, cameras: ['cam'], width: 160, height: 120 });
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
    const child = fileURLToPath(new URL('../helpers/convert-child.js', import.meta.url));
    const args = [...workerFlags, child, JSON.stringify(config), join(folder, 'out'), ...recordings];
    const { stdout } = await promisify(execFile)(process.execPath, args);
    const results = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as ChildResult);
    return results.map(({ frames, peakRssBytes }, i) => ({
      minutes: MINUTES[i] ?? 0,
      rows: frames,
      peakMB: Math.round(peakRssBytes / 1e6),
    }));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
