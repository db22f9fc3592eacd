import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { Registry } from 'prom-client';
import { allowedLocation, allowedSources } from '../../src/cluster/locations.ts';
import { InputError } from '../../src/errors.ts';
import { createStorageMetrics } from '../../src/metrics/storage.ts';
import { stageRecordings } from '../../src/queue/enqueue.ts';
import { fileUrl } from '../../src/storage/location.ts';
import { temporaryFolder } from '../helpers/conversion.ts';

const options = { metrics: createStorageMetrics(new Registry()) };

test('a pattern in a request becomes the recordings that lie there, inside the roots only', async (t) => {
  const base = await temporaryFolder(t);
  const root = join(base, 'data');
  await mkdir(join(root, 'day1'), { recursive: true });
  await mkdir(join(base, 'secret'));
  for (const name of ['data/day1/b.mcap', 'data/day1/a.mcap', 'data/c.bag', 'secret/x.mcap']) {
    await writeFile(join(base, name), 'x');
  }
  await symlink(join(base, 'secret'), join(root, 'leak'));
  const urls = (...names: string[]) => names.map((name) => fileUrl(join(root, name)).href);
  const expand = (pattern: string) => allowedSources(join(base, pattern), [root], options);
  t.deepEqual(await expand('data/day1/*.mcap'), urls('day1/a.mcap', 'day1/b.mcap'));
  t.deepEqual(await expand('data/'), urls('c.bag', 'day1/a.mcap', 'day1/b.mcap'));
  t.deepEqual(
    await expand('data/**/*.mcap'),
    urls('day1/a.mcap', 'day1/b.mcap'),
    'the link is not followed out',
  );
  t.deepEqual([await expand('data/absent.mcap')], urls('absent.mcap'), 'one recording is not looked up');
  for (const pattern of ['secret/*', '*/x.mcap', 'data/leak/*', 'data/leak/x.mcap', 'data/*.hdf5']) {
    await t.throwsAsync(expand(pattern), { instanceOf: InputError }, pattern);
  }
  await t.throwsAsync(allowedLocation(join(base, 'secret'), [root], 'output'), {
    instanceOf: InputError,
    message: /^output .* lies outside the allowed roots/,
  });
  t.is(await allowedLocation(join(base, 'anywhere'), [], 'output'), fileUrl(join(base, 'anywhere')).href);
});

test('recordings that several patterns name are staged once, and faults name the pattern', async (t) => {
  const root = await temporaryFolder(t);
  for (const name of ['a.mcap', 'b.mcap', 'c.bag']) await writeFile(join(root, name), 'x');
  const check = (location: string) => allowedSources(join(root, location), [], options);
  const { staged, faults } = await stageRecordings(
    [{ source: '*.mcap' }, { source: 'a.mcap' }, { source: '*.{mcap,bag}' }],
    check,
  );
  t.deepEqual(faults, []);
  t.deepEqual(
    staged.map(({ source }) => source),
    ['a.mcap', 'b.mcap', 'c.bag'].map((name) => fileUrl(join(root, name)).href),
  );
  const refused = await stageRecordings(
    [{ source: 'c.bag' }, { source: '*.db3' }, { source: '*', task: 'Other.' }],
    check,
  );
  t.deepEqual(
    refused.faults.map(({ pointer }) => pointer),
    ['/recordings/1/source', '/recordings/2/source'],
  );
});
