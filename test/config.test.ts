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

test('an endpoint is a store, never the place where a cloud hands out credentials', (t) => {
  const endpoint = (url: string) => loadConfig({ AWS_ENDPOINT_URL_S3: url }).AWS_ENDPOINT_URL_S3;
  for (const url of [
    'http://127.0.0.1:8333',
    'https://s3.example.com',
    'http://[::1]:9000',
    'http://minio.storage.svc:9000',
  ])
    t.is(endpoint(url), url);
  for (const url of [
    'http://169.254.169.254',
    'http://169.254.170.2/v2/credentials',
    'http://2852039166/latest', // the same address, written as one number
    'http://0xa9fea9fe/',
    'http://0251.0376.0251.0376/',
    'http://[fe80::1]/',
    'http://[::ffff:169.254.169.254]/',
    'http://[fd00:ec2::254]/',
    'http://metadata.google.internal/',
    'http://key:secret@127.0.0.1:8333',
    'ftp://127.0.0.1/',
    'file:///etc/passwd',
  ]) {
    const { message } = t.throws(() => endpoint(url), { name: 'InputError' }, url);
    t.notRegex(message, /key:secret/);
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

test('a password of Redis may not be logged wherever its URL has it, and one that is not encoded is refused', (t) => {
  const secrets = (url: string) => secretsOf(loadConfig({ REDIS_URL: url }));
  t.deepEqual(secrets('redis://:p%25ss@redis:6379'), ['p%ss']);
  t.deepEqual(secrets('rediss://robot:p%23ss@redis:6379/0'), ['p#ss']);
  t.deepEqual(secrets('redis://redis:6379?password=p%26ss'), ['p&ss']);
  t.deepEqual(secrets('unix:/run/redis.sock?password=pass'), ['pass']);
  t.deepEqual(secrets('redis://robot@redis:6379'), []);
  for (const url of ['redis://:p%ss@redis:6379', 'redis://:p#ss@redis:6379', 'redis://:p/ss@redis']) {
    t.throws(
      () => loadConfig({ REDIS_URL: url }),
      { name: 'InputError', message: /REDIS_URL: .*% as %25/ },
      url,
    );
  }
});

test("folders for temporary files are the user's own, so that two users of one machine do not meet", (t) => {
  const { SCRATCH_DIR, CACHE_DIR } = loadConfig({});
  const user = process.getuid ? String(process.getuid()) : '';
  t.regex(SCRATCH_DIR, new RegExp(`roboflow-worker-${user}.*scratch$`));
  t.regex(CACHE_DIR, new RegExp(`roboflow-worker-${user}.*cache$`));
});

test('the log is for a person at a terminal and JSON everywhere else, unless it is said', (t) => {
  const { isTTY } = process.stdout;
  const formats = [true, false].map((value) => {
    Object.defineProperty(process.stdout, 'isTTY', { value, configurable: true });
    return [undefined, 'json', 'pretty'].map((LOG_FORMAT) => loadConfig({ LOG_FORMAT }).LOG_FORMAT);
  });
  Object.defineProperty(process.stdout, 'isTTY', { value: isTTY, configurable: true });
  t.deepEqual(formats, [
    ['pretty', 'json', 'pretty'],
    ['json', 'json', 'pretty'],
  ]);
});
