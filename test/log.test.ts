import { PassThrough } from 'node:stream';
import test from 'ava';
import { createLog, redact } from '../src/log.ts';

function capture(format: 'json' | 'pretty', secrets: string[] = []) {
  const stream = new PassThrough();
  let text = '';
  stream.on('data', (chunk) => (text += String(chunk)));
  const log = createLog({ level: 'info', format, destination: stream, secrets, bindings: { slot: 3 } });
  return { log, text: () => text };
}

test('a line is one JSON object with level word, ISO time and the fields of every parent', (t) => {
  const { log, text } = capture('json');
  log.child({ jobId: 'j1' }).child({ stage: 'convert' }).info({ frames: 7 }, 'stage ended');
  log.debug({}, 'below the level');
  const lines = text().trim().split('\n');
  t.is(lines.length, 1);
  const line = JSON.parse(lines[0] ?? '') as Record<string, unknown>;
  t.like(line, { level: 'info', slot: 3, jobId: 'j1', stage: 'convert', frames: 7, msg: 'stage ended' });
  t.regex(String(line['time']), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
});

const SECRETS: [string, object, string][] = [
  ['an authorization header', { headers: { authorization: 'Bearer abc' } }, 'Bearer abc'],
  ['a token field', { apiToken: 'abcdef' }, 'abcdef'],
  ['a quoted password', { password: 'a"b\\c' }, 'a\\"b'],
  ['a password of backslashes', { password: String.raw`\\"\hunter2` }, 'hunter2'],
  ['an AWS secret key', { AWS_SECRET_ACCESS_KEY: 'wJalrXUtnFEMI' }, 'wJalrXUtnFEMI'],
  ['an AWS key id in a message', { note: 'key AKIAIOSFODNN7EXAMPLE refused' }, 'AKIAIOSFODNN7EXAMPLE'],
  ['credentials in a URL', { url: 'redis://default:hunter2@redis:6379/0' }, 'hunter2'],
  ['a password alone in a URL', { url: 'redis://:hunter2@redis:6379' }, 'hunter2'],
  ['a presigned URL', { url: 'https://b/k?X-Amz-Signature=deadbeef&x=1' }, 'deadbeef'],
  [
    'a cause deep in an error',
    { err: new Error('outer', { cause: new Error('at redis://u:hunter2@h') }) },
    'hunter2',
  ],
  ['a bearer token in an error', { err: new Error('sent Bearer abcdefghijklmnop1234') }, 'abcdefghijklmnop'],
  ['a secret that was handed in', { note: 'the value is s3cr"et!' }, 's3cr'],
];
for (const [what, fields, secret] of SECRETS) {
  test(`${what} never reaches the log`, (t) => {
    for (const format of ['json', 'pretty'] as const) {
      const { log, text } = capture(format, ['s3cr"et!']);
      log.child(fields).warn(fields, JSON.stringify(fields));
      t.true(text().length > 0);
      t.false(text().includes(secret), text());
      if (format === 'json') t.notThrows(() => JSON.parse(JSON.parse(text()).msg));
    }
  });
}

test('ordinary text passes unchanged', (t) => {
  const line = JSON.stringify({
    url: 's3://raw/run@3/a.mcap',
    source: 'file:///data/a:b/c@d.mcap',
    msg: 'expected a bearer token, found basic nonsense',
    datasetId: 'tokens',
    mail: 'someone@example.org',
  });
  t.is(redact(line), line);
});

test('text that anybody may send costs no more than its length', (t) => {
  const texts = [
    `/"token":"${'\\'.repeat(32_000)}x`,
    'a'.repeat(64_000),
    'a.'.repeat(32_000),
    '"password":"'.repeat(5000),
    'X-Amz-'.repeat(10_000),
  ];
  for (const text of texts) {
    const line = JSON.stringify({ path: text, msg: JSON.stringify({ path: text }) });
    const start = performance.now();
    redact(line);
    const ms = performance.now() - start;
    // read again from each of its letters, the longest of them took seconds
    t.true(ms < 1500, `${text.slice(0, 20)}… took ${ms.toFixed(0)} ms`);
  }
});

test('a secret too short to be told from text is refused', (t) => {
  t.throws(() => createLog({ level: 'info', format: 'json', secrets: ['ab'] }), { message: /4 characters/ });
});
