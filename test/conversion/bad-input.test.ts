import { execFileSync } from 'node:child_process';
import { chmod, mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { parseDatasetConfig } from '../../src/conversion/config.ts';
import { openStorage } from '../../src/storage/open.ts';
import { bagOf } from '../helpers/bags.ts';
import { bench, temporaryFolder } from '../helpers/conversion.ts';
import {
  demonstration,
  demonstrationChannels,
  type DemonstrationOptions,
  numberedJpeg,
  START,
} from '../helpers/demonstration.ts';
import { mcapOf } from '../helpers/recordings.ts';

const config = {
  fps: 30,
  clock: 'header',
  features: {
    'observation.images.cam_high': { topic: '/cam_high/image_raw/compressed', type: 'video' },
    'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
    action: { topic: '/joint_commands', field: 'position', names: 'all' },
  },
};

type Features = Record<string, object>;
const withFeatures = (features: Features) => ({ ...config, features: { ...config.features, ...features } });

async function fileOf(
  t: ExecutionContext,
  bytes: Uint8Array | string,
  name = 'recording.mcap',
): Promise<string> {
  const path = join(await temporaryFolder(t), name);
  await writeFile(path, bytes);
  return path;
}

/** The conversion must refuse for good, in one sentence, and leave nothing behind. */
async function refused(
  t: ExecutionContext,
  source: string,
  settings: object,
  expected: RegExp,
): Promise<void> {
  const { convert, output, scratch, metrics } = await bench(t);
  const error = await t.throwsAsync(convert(source, settings), { name: 'InputError' });
  t.regex(error.message, expected);
  t.notRegex(error.message, /\n\s+at /, 'no stack trace in a sentence for people');
  t.deepEqual(await readdir(output).catch(() => []), [], 'nothing half-published');
  t.deepEqual(await readdir(scratch).catch(() => []), [], 'scratch is empty');
  const { values } = await metrics.conversion.activeConversions.get();
  t.is(values[0]?.value, 0);
  t.is((await metrics.resources.bufferUsage.get()).values[0]?.value, 0);
}

const unreadable = test.macro({
  exec: async (t, bytes: () => Uint8Array | string, expected: RegExp) => {
    await refused(t, await fileOf(t, bytes()), config, expected);
  },
  title: (name) => `${name} is refused in a sentence`,
});

test('an empty file', unreadable, () => '', /empty/);
test(
  'a file of random bytes',
  unreadable,
  () => Uint8Array.from({ length: 5000 }, (_, i) => (i * 7919) % 251),
  /MCAP|recording/,
);
test('a text file', unreadable, () => 'topic,time,value\n/joints,1,2\n'.repeat(50), /MCAP|recording/);

test('a file that is not there is refused in a sentence', async (t) => {
  await refused(
    t,
    join(await temporaryFolder(t), 'missing.mcap'),
    config,
    /expected a recording at .*missing\.mcap/,
  );
});

test('a truncated recording is refused when recovery is off, and what is whole is converted when it is on', async (t) => {
  const bytes = await demonstration({ seconds: 4, chunkSize: 16_000 });
  const path = await fileOf(t, bytes.subarray(0, Math.floor(bytes.length * 0.6)));
  await refused(t, path, { ...config, recover: false }, /truncated|cut|incomplete|footer|end/i);
  const { manifest } = await (await bench(t)).convert(path, config);
  const frames = manifest.episodes[0]?.frames ?? 0;
  t.true(frames > 30 && frames < 120, `${frames} frames`);
  t.true(manifest.losses.length > 0, 'the loss is reported');
});

test('a topic that is empty because of damage is refused with the damage, and where it is', async (t) => {
  const one = { seconds: 1, chunkSize: 64 << 20 };
  const mcap = await demonstration(one);
  const middle = mcap.length >> 1;
  mcap[middle] = (mcap[middle] ?? 0) ^ 0xff;
  await refused(
    t,
    await fileOf(t, mcap),
    config,
    /has no messages\n(- .*\n)*- lost: chunk at byte \d+: expected CRC/,
  );

  const bag = Buffer.from(bagOf({ channels: await demonstrationChannels(one), chunkSize: 64 << 20 }));
  // the length in front of a message's field 'time'
  bag.writeUInt32LE(0x3a000000, bag.indexOf('time=') - 4);
  await refused(
    t,
    await fileOf(t, bag, 'recording.bag'),
    config,
    /has no messages\n(- .*\n)*- lost: chunk at byte \d+, record at its byte \d+: bag record header: expected \d+ bytes/,
  );
});

test('a bag whose first record is damaged is refused with the place', async (t) => {
  const bag = Buffer.from(bagOf({ channels: await demonstrationChannels({ seconds: 1 }) }));
  bag.writeUInt32LE(0x7fffffff, 13); // behind the first line
  const expected = /record at byte 13: expected a bag record, found a header of 2147483647 bytes/;
  await refused(t, await fileOf(t, bag, 'recording.bag'), config, expected);
});

const wrongConfig = test.macro({
  exec: async (t, settings: object, expected: RegExp) => {
    await refused(t, await fileOf(t, await demonstration({ seconds: 1 })), settings, expected);
  },
  title: (name) => `${name} is refused before any work`,
});

test(
  'an unknown topic',
  wrongConfig,
  withFeatures({ action: { topic: '/joint_command', field: 'position' } }),
  /action: topic \/joint_command is not in the recording.*\/joint_commands/,
);
test(
  'an unknown field',
  wrongConfig,
  withFeatures({ action: { topic: '/joint_commands', field: 'positions' } }),
  /\/joint_commands.*positions/,
);
test(
  'an unknown joint name',
  wrongConfig,
  withFeatures({ action: { topic: '/joint_commands', field: 'position', names: ['shoulder', 'elbw'] } }),
  /elbw.*elbow/,
);
test(
  'a camera feature on joint states',
  wrongConfig,
  withFeatures({ 'observation.images.wrist': { topic: '/joint_states', type: 'video' } }),
  /\/joint_states.*JointState/,
);
test(
  'a header clock on messages without stamp',
  wrongConfig,
  withFeatures({ note: { topic: '/task', field: 'data' } }),
  /header.*\/task/,
);

const damaged = test.macro({
  exec: async (t, change: NonNullable<DemonstrationOptions['change']>, expected: RegExp) => {
    await refused(t, await fileOf(t, await demonstration({ seconds: 4, change })), config, expected);
  },
  title: (name) => `${name} fails the episode with the reason`,
});

const CAMERA = '/cam_high/image_raw/compressed';

test(
  'a camera that stops half-way',
  damaged,
  (channels) =>
    channels.map((channel) =>
      channel.topic === CAMERA ? { ...channel, messages: channel.messages.slice(0, 60) } : channel,
    ),
  /cam_high.*stops.*tolerate\.early_end/,
);
test(
  'a zero-length JPEG in the middle',
  damaged,
  (channels) =>
    channels.map((channel) =>
      channel.topic === CAMERA
        ? {
            ...channel,
            messages: channel.messages.map((message, i) =>
              i === 57
                ? { ...message, value: { ...(message.value as object), data: new Uint8Array() } }
                : message,
            ),
          }
        : channel,
    ),
  /cam_high.*no bytes/,
);
test('a camera that changes its size fails the episode, with its topic', async (t) => {
  const data = await numberedJpeg(57, { width: 48, height: 32 });
  const change: DemonstrationOptions['change'] = (channels) =>
    channels.map((channel) => {
      if (channel.topic !== CAMERA) return channel;
      const value = { ...(channel.messages[57]?.value as object), data };
      const messages = channel.messages.map((message, i) => (i === 57 ? { ...message, value } : message));
      return { ...channel, messages };
    });
  await refused(
    t,
    await fileOf(t, await demonstration({ seconds: 2, change })),
    config,
    /message of \/cam_high\S* at .*: topic \/cam_high\S*: expected pictures of jpeg 96×64 like those before, found jpeg 48×32/,
  );
});
test(
  'stamps that run backwards by seconds',
  damaged,
  (channels) =>
    channels.map((channel) =>
      channel.topic === '/joint_states'
        ? {
            ...channel,
            messages: channel.messages.map((message, i) =>
              i < 200
                ? message
                : { ...message, value: { ...(message.value as object), header: stampAt(i - 200) } },
            ),
          }
        : channel,
    ),
  /\/joint_states.*reorder/,
);
test(
  'a NaN in a vector',
  damaged,
  (channels) =>
    channels.map((channel) =>
      channel.topic === '/joint_states'
        ? {
            ...channel,
            messages: channel.messages.map((message, i) =>
              i === 120
                ? { ...message, value: { ...(message.value as object), position: [0, Number.NaN, 0, 0] } }
                : message,
            ),
          }
        : channel,
    ),
  /\/joint_states.*NaN/,
);

test('messages cut short are left out where that is tolerated, also the first one, which the plan would go by', async (t) => {
  const joints = (await demonstrationChannels({ seconds: 2 })).map((channel) =>
    channel.topic === '/joint_states'
      ? {
          ...channel,
          messages: channel.messages.map(({ log, value }, i) => {
            if (i === 0) return { log, value: { ...(value as object), name: [], position: [] } };
            // An encapsulation header, and nothing of the stamp.
            return { log, value: i % 50 === 1 ? Uint8Array.of(0, 1, 0, 0) : value };
          }),
        }
      : channel,
  );
  const source = await fileOf(t, await mcapOf({ channels: joints }));
  await refused(t, source, config, /joint_states/);
  await refused(
    t,
    source,
    { ...config, tolerate: { undecodable: 0.02 } },
    /: 5 of 200 messages of \/joint_states do not decode, more than tolerate\.undecodable \(0\.02\)/,
  );
  const { convert } = await bench(t);
  const { manifest } = await convert(source, { ...config, tolerate: { undecodable: 0.03 } });
  t.deepEqual(manifest.features.find(({ key }) => key === 'observation.state')?.names, [
    'shoulder',
    'elbow',
    'wrist',
    'gripper',
  ]);
  const state = manifest.alignment.sources.find(({ topic }) => topic === '/joint_states');
  t.like(state, { samples: 200, undecodable: 5, late: 0 });
  t.is(manifest.alignment.rows + manifest.alignment.droppedRows, 60);
});

function stampAt(sample: number) {
  const time = START + BigInt(sample) * 10_000_000n;
  const nanos = Number(time % 1_000_000_000n);
  return { seq: 0, stamp: { sec: Number(time / 1_000_000_000n), nanosec: nanos, nsec: nanos }, frame_id: '' };
}

/** A JPEG with all its markers, and hardly anything of the picture between them. */
function hollow(jpeg: Uint8Array): Uint8Array {
  const bytes = Buffer.from(jpeg);
  const scan = bytes.indexOf(Buffer.of(0xff, 0xda));
  const data = scan + 2 + bytes.readUInt16BE(scan + 2);
  return Buffer.concat([bytes.subarray(0, data + 8), Buffer.of(0xff, 0xd9)]);
}

test('pictures that are damaged inside are counted, and a camera with little else is refused', async (t) => {
  const damaged = (which: (frame: number) => boolean) =>
    demonstration({
      change: (channels) =>
        channels.map((channel) =>
          channel.topic === '/cam_high/image_raw/compressed'
            ? {
                ...channel,
                messages: channel.messages.map(({ log, value }, frame) => {
                  const message = value as { data: Uint8Array };
                  return { log, value: which(frame) ? { ...message, data: hollow(message.data) } : message };
                }),
              }
            : channel,
        ),
    });
  const few = await fileOf(t, await damaged((frame) => frame % 20 === 7));
  const { manifest } = await (await bench(t)).convert(few, config);
  t.deepEqual(manifest.losses, [
    {
      what: 'pictures of observation.images.cam_high that did not decode, shown as the picture before them',
      count: 3,
    },
  ]);
  const end = await fileOf(t, await damaged((frame) => frame >= 57));
  await refused(t, end, config, /cam_high: the last 3 of 60 pictures do not decode/);
  const all = await fileOf(t, await damaged(() => true));
  await refused(t, all, config, /cam_high: none of the 60 pictures decodes/);
  const most = await fileOf(t, await damaged((frame) => frame % 3 < 2));
  await refused(
    t,
    most,
    config,
    /: 40 of the 60 pictures of observation\.images\.cam_high do not decode; 'tolerate\.undecodable' \(0\) accepts a share above 0\.5/,
  );
  const { convert } = await bench(t);
  const { manifest: accepted } = await convert(most, { ...config, tolerate: { undecodable: 0.7 } });
  t.is(accepted.losses[0]?.count, 40);
});

test('fps 0 and unknown keys are refused when the config is read, each naming its place', (t) => {
  const error = t.throws(() => parseDatasetConfig({ ...config, fps: 0, robot_typ: 'g1' }), {
    name: 'InputError',
  });
  t.regex(error.message, /fps/);
  t.regex(error.message, /robot_typ.*robot_type/);
});

test('a first message that does not decode is refused with its place', async (t) => {
  const change: DemonstrationOptions['change'] = (channels) =>
    channels.map((channel) => {
      if (channel.topic !== '/joint_states') return channel;
      const [first, ...others] = channel.messages;
      // an encapsulation that is not read
      return {
        ...channel,
        messages: [{ log: first?.log ?? 0n, value: Uint8Array.of(0, 10, 0, 0) }, ...others],
      };
    });
  await refused(
    t,
    await fileOf(t, await demonstration({ seconds: 1, change })),
    config,
    /a message of \/joint_states \(\S+\) at byte \d+ of the chunk at byte \d+ does not decode/,
  );
});

const asRoot = process.getuid?.() === 0;

test('a destination that is not writable fails without a retry', async (t) => {
  if (asRoot) return unwritable(t, '/sys/dataset');
  const closed = join(await temporaryFolder(t), 'closed');
  await mkdir(closed);
  await chmod(closed, 0o500);
  return unwritable(t, join(closed, 'dataset'));
});

test('a destination below a file fails without a retry', async (t) => {
  await unwritable(t, join(await fileOf(t, 'a file', 'file.txt'), 'dataset'));
});

async function unwritable(t: ExecutionContext, destination: string): Promise<void> {
  const path = await fileOf(t, await demonstration({ seconds: 1 }));
  const { metrics } = await bench(t);
  const output = openStorage(destination, { metrics: metrics.storage, role: 'destination' });
  const { convert, scratch } = await bench(t, { output });
  const error = await t.throwsAsync(convert(path, config), { name: 'StorageError' });
  t.is((error as Error & { retryable?: boolean }).retryable, false);
  t.deepEqual(await readdir(scratch).catch(() => []), []);
}

(asRoot ? test : test.skip)(
  'a full scratch disk is the reason that is given, may be tried again, and leaves nothing behind',
  async (t) => {
    const path = await fileOf(t, await demonstration({ seconds: 8, width: 320, height: 240 }));
    const disk = join(await temporaryFolder(t), 'disk');
    await mkdir(disk);
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16k', 'tmpfs', disk], { stdio: 'pipe' });
    } catch {
      t.log('this machine does not let its root mount a small disk; nothing was tested');
      t.pass();
      return;
    }
    try {
      const scratch = join(disk, 'job');
      const { convert, output } = await bench(t, { scratch });
      const error = await t.throwsAsync(convert(path, config), {
        name: 'StorageError',
        message: /disk is full|no space/i,
      });
      t.is((error as Error & { retryable?: boolean }).retryable, true);
      t.deepEqual(await readdir(disk), []);
      t.deepEqual(await readdir(output).catch(() => []), []);
    } finally {
      execFileSync('umount', [disk]);
    }
  },
);
