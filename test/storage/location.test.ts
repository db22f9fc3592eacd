import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import test from 'ava';
import { InputError } from '../../src/errors.ts';
import { assertKey } from '../../src/storage/keys.ts';
import {
  assertInsideRoots,
  bucketAndKey,
  filePath,
  isInside,
  locationOf,
  parentOf,
  resolveLocation,
} from '../../src/storage/location.ts';
import { tempFolder } from './temp-folder.ts';

test('a location has one normal form, and the form is a fixed point', (t) => {
  const forms: Record<string, string> = {
    '/data/a.mcap': 'file:///data/a.mcap',
    '/data//raw/./a.mcap': 'file:///data/raw/a.mcap',
    '/data/raw/': 'file:///data/raw',
    '/data/100% [1] ?#.mcap': 'file:///data/100%25%20%5B1%5D%20%3F%23.mcap',
    '/': 'file:///',
    'file:///data/a%20b.mcap': 'file:///data/a%20b.mcap',
    'file:/data/a.mcap': 'file:///data/a.mcap',
    'FILE:///data/a.mcap': 'file:///data/a.mcap',
    'file:///data//raw/./a/': 'file:///data/raw/a',
    's3://bucket': 's3://bucket',
    's3://bucket/': 's3://bucket',
    'S3://bucket/raw/a.mcap': 's3://bucket/raw/a.mcap',
    's3://bucket/raw/./day=1/': 's3://bucket/raw/day=1',
    's3://my.bucket-1/a b+c%25.mcap': 's3://my.bucket-1/a%20b+c%25.mcap',
    's3://bucket/%E2%82%AC': 's3://bucket/%E2%82%AC',
    's3://bucket/€': 's3://bucket/%E2%82%AC',
  };
  for (const [input, expected] of Object.entries(forms)) {
    const url = resolveLocation(input);
    t.is(url.href, expected, input);
    t.is(resolveLocation(url.href).href, expected, `${input} again`);
  }
});

test('relative paths and .. are taken from a command line only', (t) => {
  t.is(resolveLocation('raw/a.mcap', { cwd: '/data' }).href, 'file:///data/raw/a.mcap');
  t.is(resolveLocation('../raw/a.mcap', { cwd: '/data/x' }).href, 'file:///data/raw/a.mcap');
  t.throws(() => resolveLocation('raw/a.mcap'), {
    instanceOf: InputError,
    message: /absolute path or a URL/,
  });
  t.throws(() => resolveLocation('/data/../etc'), { instanceOf: InputError, message: /".."/ });
});

const hostile = [
  '',
  'http://169.254.169.254/latest/meta-data/',
  'https://example.com/a.mcap',
  'HTTP://localhost/a',
  'ftp://host/a',
  'gs://bucket/a',
  'data:text/plain,hello',
  'javascript:alert(1)',
  'gopher://host/1',
  'unix:/var/run/docker.sock',
  'file://host/etc/passwd',
  'file://localhost/etc/passwd',
  'file://127.0.0.1/etc/passwd',
  'file://user:password@/etc/passwd',
  'file:////etc/passwd',
  'file://///host/share',
  'file:etc/passwd',
  'file:',
  'file:///data/../etc/passwd',
  'file:///data/..',
  'file:///data/%2e%2e/etc/passwd',
  'file:///data/.%2E/etc/passwd',
  'file:///data/%2Fetc%2Fpasswd',
  'file:///data/a%00.mcap',
  'file:///data/a\0.mcap',
  'file:///data\\..\\etc\\passwd',
  'file:///data/%5c..%5cetc',
  'file:///data/a.mcap?x=1',
  'file:///data/a.mcap#x',
  'file:///data/%zz',
  'file:///data/%ff',
  ' file:///data/a.mcap',
  'file:///data/a\n.mcap',
  'fi\tle:///etc/passwd',
  's3:bucket/key',
  's3:///key',
  's3://',
  's3://169.254.169.254/latest/meta-data',
  's3://[::1]/key',
  's3://127.0.0.1:9000/key',
  's3://bucket:9000/key',
  's3://key:secret@bucket/key',
  's3://Bucket/key',
  's3://b/key',
  's3://bucket_name/key',
  's3://bu..cket/key',
  's3://-bucket/key',
  's3://bucket/../other/key',
  's3://bucket/a/../../other',
  's3://bucket/%2e%2e/other',
  's3://bucket/a%2Fb',
  's3://bucket/a//b',
  's3://bucket//etc/passwd',
  's3://bucket/a?versionId=1',
  's3://bucket/a#b',
  's3://bucket/a%00',
  's3://bucket/a\\b',
  's3://bucket/%',
  's3://bucket/%c3%28',
  'C:\\recordings\\a.mcap',
  '\\\\host\\share',
  '//host/share/../../etc',
  `/${'x'.repeat(5000)}`,
];

for (const [index, url] of hostile.entries()) {
  test(`hostile location ${index} is refused in one sentence: ${JSON.stringify(url.slice(0, 60))}`, (t) => {
    const error = t.throws(() => resolveLocation(url), { instanceOf: InputError });
    t.false(error.message.includes('\n'));
  });
}

const hostileIds = [
  '..',
  '.',
  '../x',
  'a/../../x',
  '/abs',
  'a//b',
  'a\0b',
  'a\\b',
  '',
  'a/',
  'a\rb',
  '.roboflow-tmp.x/y',
];
test('hostile ids are no keys', (t) => {
  for (const id of hostileIds) t.throws(() => assertKey(id), { instanceOf: InputError }, JSON.stringify(id));
});

test('a doubly encoded slash stays a percent sign in a name', (t) => {
  t.deepEqual(bucketAndKey(resolveLocation('s3://bucket/a%252Fb')), { bucket: 'bucket', key: 'a%2Fb' });
  t.is(filePath(resolveLocation('file:///data/%252e%252e/x')), '/data/%2e%2e/x');
});

test('roots hold by whole path segments', async (t) => {
  const roots = ['s3://raw/robots', 'file:///srv/data/'];
  const inside = ['s3://raw/robots', 's3://raw/robots/a.mcap', 'file:///srv/data', '/srv/data/x/y'];
  const outside = [
    's3://raw/robots2/a',
    's3://raw',
    's3://raw2/robots/a',
    'file:///srv/data2',
    '/srv',
    '/',
    '/etc',
  ];
  for (const url of inside) t.true(await isInside(resolveLocation(url), roots), url);
  for (const url of outside) t.false(await isInside(resolveLocation(url), roots), url);
  t.true(await isInside(resolveLocation('s3://any/key'), ['s3://any']));
  t.true(await isInside(resolveLocation('/any/path'), ['/']));
  t.false(await isInside(resolveLocation('/any/path'), []));
  await t.throwsAsync(assertInsideRoots(resolveLocation('/etc/passwd'), roots, 'source'), {
    instanceOf: InputError,
    message: /^source file:\/\/\/etc\/passwd lies outside the allowed roots \(s3:\/\/raw\/robots, /,
  });
});

test('roots hold after symbolic links are resolved, on both sides, also for what does not exist yet', async (t) => {
  const base = await tempFolder(t);
  await mkdir(join(base, 'real/root'), { recursive: true });
  await mkdir(join(base, 'outside'));
  await writeFile(join(base, 'outside/secret'), 'x');
  await symlink(join(base, 'real/root'), join(base, 'root'));
  await symlink(join(base, 'outside'), join(base, 'real/root/leak'));
  await symlink(join(base, 'outside/secret'), join(base, 'real/root/leak.mcap'));
  await symlink(join(base, 'nowhere'), join(base, 'real/root/dangling'));
  const roots = [join(base, 'root')];
  const at = (path: string) => pathToFileURL(join(base, path));
  t.true(await isInside(at('root/new/folder'), roots));
  t.true(await isInside(at('real/root/new'), roots));
  t.false(await isInside(at('root/leak/secret'), roots));
  t.false(await isInside(at('root/leak/new'), roots));
  t.false(await isInside(at('root/leak.mcap'), roots));
  await t.throwsAsync(isInside(at('root/dangling'), roots), { instanceOf: InputError });
  await t.throwsAsync(isInside(at('root/dangling/x'), roots), { instanceOf: InputError });
});

test('a location comes apart and together again', (t) => {
  for (const text of [
    'file:///data/a%20b/c%25.mcap',
    's3://bucket/a%20b/c%25.mcap',
    's3://bucket/x',
    'file:///x',
  ]) {
    const url = resolveLocation(text);
    const at = parentOf(url);
    t.truthy(at);
    if (at !== undefined) t.is(locationOf(at.parent, at.name).href, url.href);
  }
  t.is(parentOf(resolveLocation('s3://bucket')), undefined);
  t.is(parentOf(resolveLocation('/')), undefined);
});
