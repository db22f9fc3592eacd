import { readFileSync } from 'node:fs';
import { parseEnv } from 'node:util';
import test from 'ava';
import { environment, loadConfig } from '../src/config.ts';

const text = readFileSync(new URL('../../.env.example', import.meta.url), 'utf8');
const lines = text.split('\n');
const example = parseEnv(text);
/** Their defaults depend on the machine or the terminal, so the file describes them instead. */
const ofTheMachine = new Set(['WORKERS', 'SCRATCH_DIR', 'CACHE_DIR', 'LOG_FORMAT']);

test('.env.example lists every variable of the service in the order of its schema', (t) => {
  const listed = lines.flatMap((line) => /^(\w+)=/.exec(line)?.[1] ?? []);
  t.deepEqual(listed, Object.keys(environment.shape));
});

test('.env.example used as it stands changes nothing', (t) => {
  t.deepEqual(loadConfig(example), loadConfig({}));
});

test('.env.example shows every default there is', (t) => {
  const defaults = loadConfig({});
  for (const name of Object.keys(environment.shape) as (keyof typeof environment.shape)[]) {
    const value = defaults[name];
    const hasDefault = value !== undefined && !(Array.isArray(value) && value.length === 0);
    t.is(example[name] !== '', hasDefault && !ofTheMachine.has(name), name);
  }
});

test('.env.example says in one line above each variable what it is', (t) => {
  lines.forEach((line, index) => {
    if (/^\w+=/.test(line)) t.regex(lines[index - 1] ?? '', /^# .{10,}/, line);
  });
});
