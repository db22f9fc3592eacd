import test from 'ava';
import { loadConfig, s3Settings, secretsOf } from '../src/config.ts';

test('an empty environment gives the documented defaults', (t) => {
  const config = loadConfig({});
  t.is(config.REDIS_URL, 'redis://127.0.0.1:6379');
  t.is(config.QUEUE_PREFIX, '{roboflow}');
  t.is(config.HTTP_HOST, '127.0.0.1');
  t.is(config.HTTP_PORT, 8080);
  t.is(config.METRICS_ENABLED, true);
  t.deepEqual(config.SOURCE_ROOTS, []);
  t.true(Object.isFrozen(config));
});

test('an empty variable counts as unset', (t) => {
  t.is(loadConfig({ HTTP_PORT: '', API_TOKEN: '' }).HTTP_PORT, 8080);
});

test('every wrong value is named in one error', (t) => {
  const error = t.throws(
    () =>
      loadConfig({
        REDIS_URL: 'http://x',
        WORKERS: '-1',
        HTTP_PORT: '70000',
        METRICS_ENABLED: 'yes',
        SOURCE_ROOTS: 'file:///ok/,/not/a/url',
        LOG_LEVEL: 'loud',
      }),
    { name: 'InputError' },
  );
  for (const name of ['REDIS_URL', 'WORKERS', 'HTTP_PORT', 'METRICS_ENABLED', 'SOURCE_ROOTS', 'LOG_LEVEL']) {
    t.regex(error.message, new RegExp(`${name}: expected`));
  }
});

test('roots are split, trimmed and kept in order', (t) => {
  t.deepEqual(loadConfig({ SOURCE_ROOTS: ' file:///data/ , s3://raw/ ' }).SOURCE_ROOTS, [
    'file:///data/',
    's3://raw/',
  ]);
});

test('a temporary key comes with its session token, and neither secret may be logged', (t) => {
  const key = { AWS_ACCESS_KEY_ID: 'key', AWS_SECRET_ACCESS_KEY: 'secret' };
  t.deepEqual(s3Settings(loadConfig({ ...key, AWS_SESSION_TOKEN: 'token' })).credentials, {
    accessKeyId: 'key',
    secretAccessKey: 'secret',
    sessionToken: 'token',
  });
  t.false('sessionToken' in (s3Settings(loadConfig(key)).credentials ?? {}));
  t.is(s3Settings(loadConfig({ AWS_ACCESS_KEY_ID: 'key' })).credentials, undefined);
  t.deepEqual(secretsOf(loadConfig({ ...key, AWS_SESSION_TOKEN: 'token' })), ['secret', 'token']);
});

test("folders for temporary files are the user's own, so that two users of one machine do not meet", (t) => {
  const { SCRATCH_DIR, CACHE_DIR } = loadConfig({});
  const user = process.getuid ? String(process.getuid()) : '';
  t.regex(SCRATCH_DIR, new RegExp(`roboflow-worker-${user}.*scratch$`));
  t.regex(CACHE_DIR, new RegExp(`roboflow-worker-${user}.*cache$`));
});
