import { mkdir, readdir, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { bench } from '../helpers/conversion.ts';
import { demonstration } from '../helpers/demonstration.ts';

const config = {
  fps: 30,
  clock: 'header',
  features: {
    'observation.state': { topic: '/joint_states', field: 'position', names: 'all' },
    action: { topic: '/joint_commands', field: 'position', names: 'all' },
  },
};

test('finalizing removes temporary files of attempts of yesterday, and leaves those of today', async (t) => {
  const { folder, output, convert, finalize } = await bench(t);
  const recording = join(folder, 'a.mcap');
  await writeFile(recording, await demonstration({ seconds: 1 }));
  await convert(recording, config);
  // of a process on another machine: nobody here can tell whether it lives
  const [old, young] = ['.roboflow-tmp.000000000000.1.1.old', '.roboflow-tmp.000000000000.1.1.young'];
  await mkdir(join(output, 'videos'), { recursive: true });
  for (const name of [old, young]) await writeFile(join(output, 'videos', name), 'half a video');
  const yesterday = new Date(Date.now() - 25 * 60 * 60 * 1000);
  await utimes(join(output, 'videos', old), yesterday, yesterday);
  t.is((await finalize(config, ['episode'])).episodes, 1);
  t.deepEqual(await readdir(join(output, 'videos')), [young]);
});
