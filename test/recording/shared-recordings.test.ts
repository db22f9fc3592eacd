import { readdirSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import test from 'ava';
import { createDecoder } from '../../src/recording/decode.ts';
import { isPictureSchema, toPicture } from '../../src/recording/image.ts';
import { openRecording } from '../../src/recording/open.ts';
import { createStampReader } from '../../src/recording/stamp.ts';
import type { Recording } from '../../src/recording/types.ts';
import { localFiles, sharedRecordings } from '../helpers/recordings.ts';

/** What one real recording holds. */
type Expected = {
  readonly container: Recording['container'];
  /** Messages by topic. */
  readonly topics: Readonly<Record<string, number>>;
  /** First and last log time, ns. */
  readonly times: readonly [bigint, bigint];
  /** Pictures by topic: format and size. */
  readonly pictures?: Readonly<Record<string, string>>;
  /** What is reported as lost; without it the file must open with `recover: false`. */
  readonly losses?: RegExp;
  /** Topics whose messages carry stamps, with log time minus stamp of their first message in ns. */
  readonly stampLag?: Readonly<Record<string, bigint>>;
};

const G1_STAMPS = {
  '/cam_high/image_raw/compressed': 35_000_000n,
  '/joint_states': 1_000_000n,
  '/joint_commands': 2_000_000n,
};
const G1_PICTURES = { '/cam_high/image_raw/compressed': 'jpeg 640x480' };

function g1(frames: number): Record<string, number> {
  return {
    '/cam_high/image_raw/compressed': frames,
    '/joint_states': frames,
    '/joint_commands': frames,
    '/task': 1,
  };
}

const TURTLESIM: Readonly<Record<string, number>> = {
  '/rosout': 10,
  '/turtle1/color_sensor': 1351,
  '/tf_static': 1,
  '/turtle2/color_sensor': 1344,
  '/turtle1/pose': 1344,
  '/turtle2/pose': 1344,
  '/tf': 2688,
  '/turtle2/cmd_vel': 208,
  '/turtle1/cmd_vel': 357,
};
const TURTLESIM_TIMES = [1396293887844783943n, 1396293909544870199n] as const;
const ANALYZER_TIMES = [1700000000000000000n, 1700000003500000000n] as const;

const table: Readonly<Record<string, Expected>> = {
  'g1/g1_ep029_ros2_cdr_zstd.mcap': {
    container: 'mcap',
    topics: g1(221),
    times: [1776844327995000000n, 1776844335368333333n],
    pictures: G1_PICTURES,
    stampLag: G1_STAMPS,
  },
  'g1/g1_ep029_truncated_60pct.mcap': {
    container: 'mcap',
    topics: { ...g1(110), '/joint_commands': 111, '/joint_states': 112 },
    times: [1776844327995000000n, 1776844331701000000n],
    pictures: G1_PICTURES,
    stampLag: G1_STAMPS,
    losses: /the file ends inside the record at byte 1957934; its whole messages are kept/,
  },
  'g1/g1_ep059_rosbag2_sqlite3': {
    container: 'rosbag2',
    topics: g1(280),
    times: [1776844327995000000n, 1776844337335000000n],
    pictures: G1_PICTURES,
    stampLag: G1_STAMPS,
  },
  'g1/g1_ep059_rosbag2_sqlite3/g1_ep059_0.db3': {
    container: 'rosbag2',
    topics: g1(280),
    times: [1776844327995000000n, 1776844337335000000n],
    pictures: G1_PICTURES,
    stampLag: G1_STAMPS,
  },
  'g1/g1_ep064_ros1_lz4.bag': {
    container: 'rosbag1',
    topics: g1(368),
    times: [1776844327995000000n, 1776844340268333333n],
    pictures: G1_PICTURES,
    stampLag: G1_STAMPS,
  },
  'ros/turtlesim_none.bag': { container: 'rosbag1', topics: TURTLESIM, times: TURTLESIM_TIMES },
  'ros/turtlesim_lz4.bag': { container: 'rosbag1', topics: TURTLESIM, times: TURTLESIM_TIMES },
  'ros/turtlesim_bz2.bag': { container: 'rosbag1', topics: TURTLESIM, times: TURTLESIM_TIMES },
  'ros/no_messages.bag': { container: 'rosbag1', topics: {}, times: [0n, 0n] },
  'ros/kuka_joint_states_100hz.bag': {
    container: 'rosbag1',
    topics: { '/joint_states': 4101 },
    times: [1498489272904518983n, 1498489313905494546n],
  },
  'ros/unindexed.bag': {
    container: 'rosbag1',
    topics: { '/rosout_agg': 10, '/diagnostics_agg': 4 },
    times: ANALYZER_TIMES,
    losses: /it has no index: the recorder never closed it/,
  },
  'ros/truncated.bag': {
    container: 'rosbag1',
    topics: { '/rosout_agg': 3 },
    times: [1700000000000000000n, 1700000000200000000n],
    losses: /the file ends inside the record at byte 4117; its whole messages are kept/,
  },
  'mcap/robocodec_test_0.mcap': {
    container: 'mcap',
    topics: {
      '/camera/cam_high': 1,
      '/camera/cam_left_wrist': 1,
      '/camera/cam_right_wrist': 1,
      '/camera/top_right': 1,
      'io_teleop/joint_cmd': 1,
      'io_teleop/joint_states': 1,
    },
    times: [1735689600000000000n, 1735689600000000000n],
    pictures: {
      '/camera/cam_high': 'jpeg 640x480',
      '/camera/cam_left_wrist': 'jpeg 640x480',
      '/camera/cam_right_wrist': 'jpeg 640x480',
      '/camera/top_right': 'jpeg 640x480',
    },
  },
  'mcap/robocodec_test_3.mcap': {
    container: 'mcap',
    topics: {
      '/camera/intrinsic/camid_1': 1,
      '/lowdim/airexo_joint': 1,
      '/camera/depth/compressed/png/camid_1': 1,
      '/camera/color/compressed/jpg/camid_1': 1,
      '/camera/extrinsic/camid_1': 1,
      '/lowdim/joint': 1,
      '/lowdim/tcp': 1,
      '/lowdim/ee_state': 1,
      '/lowdim/ee_command': 1,
    },
    times: [1740746020777999872n, 1740746020777999872n],
    pictures: {
      '/camera/depth/compressed/png/camid_1': 'png 1280x720',
      '/camera/color/compressed/jpg/camid_1': 'jpeg 1280x720',
    },
  },
  'mcap/robocodec_test_16.mcap': {
    container: 'mcap',
    topics: {
      '/robocodec/hand/joint_states': 1,
      '/robocodec/sensor/realsense_head/aligned_depth_to_color/image_raw': 1,
      '/robocodec/sensor/realsense_head/color/image_raw': 1,
      '/robocodec/sensor/realsense_up/aligned_depth_to_color/image_raw': 1,
      '/robocodec/sensor/realsense_up/color/image_raw': 1,
      '/robocodec/upperlimb/joint_states': 1,
      '/robocodec/upperlimb/tcp_pose/left_arm': 1,
      '/robocodec/upperlimb/tcp_pose/right_arm': 1,
    },
    times: [1767948340775392564n, 1767948340968910983n],
    pictures: {
      '/robocodec/sensor/realsense_head/aligned_depth_to_color/image_raw': 'gray16le 1280x720',
      '/robocodec/sensor/realsense_head/color/image_raw': 'rgb24 1280x720',
      '/robocodec/sensor/realsense_up/aligned_depth_to_color/image_raw': 'gray16le 1280x720',
      '/robocodec/sensor/realsense_up/color/image_raw': 'rgb24 1280x720',
    },
  },
  'mcap/crab_servo_custom_msgs.mcap': {
    container: 'mcap',
    topics: { '/servo/encoder_data': 52, '/servo/position_data': 1300, '/load_cell_data': 4285 },
    times: [1783628026510995642n, 1783628039491601060n],
  },
  'mcap/tiny_zstd.mcap': {
    container: 'mcap',
    topics: { '/rosout': 10, '/diagnostics_agg': 4 },
    times: ANALYZER_TIMES,
  },
  'mcap/wholefile.mcap.zstd': {
    container: 'mcap',
    topics: { '/rosout': 10, '/diagnostics_agg': 4 },
    times: ANALYZER_TIMES,
  },
  'mcap/truncated.mcap': {
    container: 'mcap',
    topics: { '/rosout': 10, '/diagnostics_agg': 4 },
    times: ANALYZER_TIMES,
    losses: /the file ends inside the record at byte 1475/,
  },
};

const folder = sharedRecordings();

for (const [name, expected] of Object.entries(table)) {
  const title = `${name} gives the messages it is known to hold`;
  if (!folder) {
    test.skip(`${title} (no recordings here: set RECORDINGS_DIR)`, () => undefined);
    continue;
  }
  test(title, async (t) => {
    const files = await localFiles(join(folder, name));
    if (expected.losses)
      await t.throwsAsync(openRecording(files, { recover: false }), { name: 'InputError' });
    const recording = await openRecording(files, { recover: expected.losses !== undefined });
    t.is(recording.container, expected.container);
    const decoders = new Map(
      recording.channels.map((channel) => [
        channel,
        {
          decode: createDecoder(channel),
          stamp: createStampReader(channel),
          picture: isPictureSchema(channel),
        },
      ]),
    );
    const topics: Record<string, number> = {};
    const pictures: Record<string, string> = {};
    const lags: Record<string, bigint> = {};
    let before = 0n;
    for await (const { channel, logTime, data } of recording.messages()) {
      t.true(logTime >= before);
      before = logTime;
      topics[channel.topic] = (topics[channel.topic] ?? 0) + 1;
      const reading = decoders.get(channel);
      const value = reading?.decode(data);
      const stamp = reading?.stamp?.(data);
      if (stamp !== undefined) lags[channel.topic] ??= logTime - stamp;
      if (!reading?.picture) continue;
      const picture = toPicture(value, channel);
      const format = picture.format === 'raw' ? picture.pixelFormat : picture.format;
      pictures[channel.topic] ??= `${format} ${picture.width}x${picture.height}`;
    }
    t.deepEqual(topics, expected.topics);
    t.deepEqual([recording.startTime, recording.endTime], [...expected.times]);
    if (expected.pictures) t.deepEqual(pictures, expected.pictures);
    if (expected.stampLag) t.deepEqual(lags, expected.stampLag);
    const losses = recording.losses.map(({ what }) => what).join('\n');
    if (expected.losses) t.regex(losses, expected.losses);
    else t.is(losses, '');
    const ranges = await recording.topicRanges();
    t.deepEqual(Object.fromEntries([...(ranges ?? [])].map(([topic, { count }]) => [topic, count])), topics);
    await recording.close();
  });
}

test('every recording that is here is in the table', (t) => {
  if (!folder) {
    t.log('no recordings here: set RECORDINGS_DIR');
    t.pass();
    return;
  }
  const found = ['g1', 'mcap', 'ros'].flatMap((part) =>
    readdirSync(join(folder, part), { recursive: true, withFileTypes: true })
      .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
      .filter((name) => /\.(mcap|bag|db3|zstd)$/.test(name) && statSync(join(folder, name)).isFile()),
  );
  t.deepEqual(
    found.toSorted(),
    Object.keys(table)
      .filter((name) => /\.\w+$/.test(name))
      .toSorted(),
  );
});
