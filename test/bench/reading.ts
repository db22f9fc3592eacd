// Reading alone: every message of a recording decoded, nothing encoded.
import { mkdir, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createDecoder } from '../../src/recording/decode.ts';
import { openRecording } from '../../src/recording/open.ts';
import { bagOf } from '../helpers/bags.ts';
import { demonstrationChannels } from '../helpers/demonstration.ts';
import { noisyJpeg } from '../helpers/noisy-jpeg.ts';
import { type BuiltChannel, localFiles, mcapOf } from '../helpers/recordings.ts';
import { rosbag2Of } from '../helpers/rosbag2.ts';
import { median } from './measure.ts';

/** MB of recording a second of work. */
export type ReadingBench = { readonly container: string; readonly MB: number; readonly MBperSecond: number };

export async function benchReading(runs = 5, seconds = 20): Promise<ReadingBench[]> {
  const folder = await mkdtemp(join(tmpdir(), 'roboflow-bench-'));
  try {
    const channels = await realisticChannels(seconds);
    const chunkSize = 1 << 20;
    const paths = {
      'mcap zstd': join(folder, 'zstd.mcap'),
      'mcap lz4': join(folder, 'lz4.mcap'),
      'bag lz4': join(folder, 'lz4.bag'),
      db3: join(folder, 'db3'),
    };
    await writeFile(paths['mcap zstd'], await mcapOf({ channels, chunkSize, compression: 'zstd' }));
    await writeFile(paths['mcap lz4'], await mcapOf({ channels, chunkSize, compression: 'lz4' }));
    await writeFile(paths['bag lz4'], bagOf({ channels, chunkSize, compression: 'lz4' }));
    await mkdir(paths.db3);
    for (const [name, bytes] of Object.entries(await rosbag2Of({ channels }))) {
      await writeFile(join(paths.db3, name), bytes);
    }
    const rows: ReadingBench[] = [];
    for (const [container, path] of Object.entries(paths)) {
      const times: number[] = [];
      let payload = 0;
      for (let run = 0; run < runs; run++) {
        const start = performance.now();
        payload = await readAll(path);
        times.push((performance.now() - start) / 1000);
      }
      const bytes = (await stat(path)).isDirectory() ? payload : (await stat(path)).size;
      rows.push({ container, MB: round(bytes / 1e6), MBperSecond: round(bytes / 1e6 / median(times)) });
    }
    return rows;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Three cameras with noise, whose pictures do not compress any further (none comes twice within a chunk), and joints. */
async function realisticChannels(seconds: number): Promise<BuiltChannel[]> {
  const size = { width: 640, height: 480 };
  const pictures = await Promise.all(Array.from({ length: 90 }, (_, i) => noisyJpeg(i, size)));
  const channels = await demonstrationChannels({
    seconds,
    cameras: ['a', 'b', 'c'],
    width: 32,
    height: 32,
  });
  let first = 0;
  return channels.map((channel) => {
    if (channel.type !== 'sensor_msgs/CompressedImage') return channel;
    const own = pictures.slice(first, (first += 30));
    const messages = channel.messages.map((message, i) => ({
      ...message,
      value: { ...(message.value as object), data: own[i % own.length] },
    }));
    return { ...channel, messages };
  });
}

/** Decodes every message; returns the bytes of their payloads. */
async function readAll(path: string): Promise<number> {
  const recording = await openRecording(await localFiles(path));
  const decoders = new Map(recording.channels.map((channel) => [channel.id, createDecoder(channel)]));
  let bytes = 0;
  for await (const { channel, data } of recording.messages()) {
    decoders.get(channel.id)?.(data);
    bytes += data.byteLength;
  }
  await recording.close();
  return bytes;
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
