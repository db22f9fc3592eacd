import { join } from 'node:path';
import test from 'ava';
import { asyncBufferFromFile, parquetReadObjects } from 'hyparquet';
import { verifyDataset } from '../../src/dataset/verify.ts';
import { bench } from '../helpers/conversion.ts';
import { sharedRecordings } from '../helpers/recordings.ts';

const shared = sharedRecordings();
const real = shared ? test : test.skip;
const mcap = (name: string) => join(shared ?? '', 'mcap', name);

const rowsOf = async (dataset: string) =>
  parquetReadObjects({ file: await asyncBufferFromFile(join(dataset, 'data/chunk-000/file-000.parquet')) });

real('a bimanual robot with four cameras and one message a topic becomes one row', async (t) => {
  const cameras = ['cam_high', 'cam_left_wrist', 'cam_right_wrist', 'top_right'];
  const config = {
    fps: 30,
    clock: 'header',
    features: {
      ...Object.fromEntries(
        cameras.map((name) => [`observation.images.${name}`, { topic: `/camera/${name}`, type: 'video' }]),
      ),
      'observation.state': { topic: 'io_teleop/joint_states', field: 'position', names: 'all' },
      action: { topic: 'io_teleop/joint_cmd', field: 'position', names: 'all' },
    },
  };
  const { convert, finalize, context, output } = await bench(t);
  const { manifest } = await convert(mcap('robocodec_test_0.mcap'), config);
  t.is(manifest.episodes[0]?.frames, 1);
  t.is(manifest.files.filter(({ type }) => type === 'video').length, 4);
  await finalize(config, ['episode']);
  t.deepEqual(
    (await verifyDataset(context.output)).filter(({ ok }) => !ok),
    [],
  );
  const [row] = await rowsOf(output);
  t.is((row?.['observation.state'] as number[] | undefined)?.length, 28);
});

real('custom protobuf types: colour and vectors are converted', async (t) => {
  const config = {
    fps: 10,
    features: {
      'observation.images.color': { topic: '/camera/color/compressed/jpg/camid_1', type: 'video' },
      'observation.state': {
        concat: [
          { topic: '/lowdim/joint', field: 'data' },
          { topic: '/lowdim/ee_state', field: 'data[0:1]', labels: ['gripper'] },
        ],
      },
      action: { topic: '/lowdim/airexo_joint', field: 'data' },
    },
  };
  const { convert, finalize, context } = await bench(t);
  const { manifest } = await convert(mcap('robocodec_test_3.mcap'), config);
  const shapes = manifest.features.map(({ key, shape }) => [key, shape]);
  t.deepEqual(shapes, [
    ['observation.images.color', [720, 1280, 3]],
    ['observation.state', [15]],
    ['action', [14]],
  ]);
  await finalize(config, ['episode']);
  t.deepEqual(
    (await verifyDataset(context.output)).filter(({ ok }) => !ok),
    [],
  );
});

const refused = test.macro({
  exec: async (t, file: string, feature: object, expected: RegExp) => {
    const { convert } = await bench(t);
    const config = { fps: 10, features: { 'observation.images.it': feature } };
    const error = await t.throwsAsync(convert(mcap(file), config), { name: 'InputError' });
    t.regex(error.message, expected);
  },
  title: (name) => `${name} is refused, naming topic and reason`,
});

if (shared) {
  test(
    'a depth picture as colour video',
    refused,
    'robocodec_test_3.mcap',
    { topic: '/camera/depth/compressed/png/camid_1', type: 'video' },
    /\/camera\/depth\/compressed\/png\/camid_1.*depth/,
  );
  test(
    'a topic without pictures as a camera',
    refused,
    'robocodec_test_3.mcap',
    { topic: '/lowdim/tcp', type: 'video' },
    /\/lowdim\/tcp.*LowdimData/,
  );
  test(
    'a camera that is not there',
    refused,
    'crab_servo_custom_msgs.mcap',
    { topic: '/camera', type: 'video' },
    /topic \/camera is not in the recording/,
  );
}

real('custom ROS 2 types at several rates give the rows that the definition predicts', async (t) => {
  const config = {
    fps: 20,
    features: {
      'observation.state': { topic: '/servo/position_data', field: 'data', align: { max_age: 1 } },
      'observation.load': { topic: '/load_cell_data', field: 'data[0:4]', align: { max_age: 1 } },
    },
  };
  const { convert, finalize, output } = await bench(t);
  const { manifest } = await convert(mcap('crab_servo_custom_msgs.mcap'), config);
  await finalize(config, ['episode']);
  // The load cell is there from 0.0006 s to 9.0573 s, the servo from the start to the end.
  t.is(manifest.episodes[0]?.frames, 182);
  const rows = await rowsOf(output);
  t.is(rows.length, 182);
  t.is((rows[0]?.['observation.load'] as number[] | undefined)?.length, 4);
  const load = manifest.alignment.sources.find(({ topic }) => topic === '/load_cell_data');
  t.is(load?.samples, 4285);
});
