import { isRecord } from '../frame/field-path.ts';
import {
  cameraNames,
  vectorTopics,
  withoutDuplicates,
  type TopicFacts,
  type VectorTopic,
} from './suggest-topics.ts';

export type { TopicFacts } from './suggest-topics.ts';

/** A recording as an inspection describes it. */
export type RecordingFacts = {
  readonly name: string;
  /** Length, seconds. */
  readonly seconds: number;
  readonly topics: readonly TopicFacts[];
  readonly metadata: readonly { readonly name: string; readonly entries: Readonly<Record<string, string>> }[];
};

/**
 * A commented config (YAML) to start from. For the usual recordings (joint states, commands, cameras) it converts at
 * once; what was left out stands in it as comments, with the reason.
 */
export function suggestConfig(recording: RecordingFacts): string {
  const { usable, sparse } = byCoverage(recording);
  const cameras = withoutDuplicates(usable.filter(({ probe }) => probe.picture));
  const vectors = chooseVectors(usable.flatMap(vectorTopics));
  const used = [...cameras.taken, ...vectors.state, ...vectors.action];
  const clock = clockOf(used);
  const measured = (facts: TopicFacts) =>
    clock.stamped ? { ...facts, hz: facts.stampHz ?? facts.hz } : facts;
  const fps = rateOf(cameras.taken.map(measured), [...vectors.state, ...vectors.action].map(measured)[0]);
  const features = [
    ...cameraLines(cameras.taken, clock.stamped),
    ...vectorLines('observation.state', vectors.state),
    ...(vectors.action.length > 0 ? vectorLines('action', vectors.action) : derivedAction(vectors.state)),
  ];
  return [
    `# Suggested for ${oneLine(recording.name)}; every line can be changed.`,
    `fps: ${fps.value} # ${oneLine(fps.why)}`,
    '# robot_type: my_robot',
    `clock: ${clock.value} # ${oneLine(clock.why)}`,
    ...taskLines(recording),
    features.length > 0
      ? 'features:'
      : 'features: {} # nothing in this recording looks like a camera, a state or a command',
    ...features,
    ...leftOut(cameras.left, vectors.others, sparse),
    ...alignLines(used.map(measured)),
    '# episodes: {split: {gap: 2.0}}   # or {topic: /episode, field: data}, {marks: "{name}.json"}',
    ...(vectors.state.length > 0 ? ['# trim: {feature: observation.state, threshold: 0.01, keep: 0.5}'] : []),
    '',
  ].join('\n');
}

/**
 * Topics with too few messages, or on too little of the recording, would cut the dataset short. When no other topic
 * has anything to offer (a snippet with a message or two a topic), all that have a message are taken.
 */
function byCoverage({ topics, seconds }: RecordingFacts): { usable: TopicFacts[]; sparse: TopicFacts[] } {
  const offers = (facts: TopicFacts) => facts.probe.picture !== undefined || vectorTopics(facts).length > 0;
  const covering = topics.filter(
    ({ messages, first, last }) =>
      messages >= 2 && first !== null && last !== null && last - first >= 0.7 * seconds,
  );
  const usable = covering.some(offers) ? covering : topics.filter(({ messages }) => messages > 0);
  return { usable, sparse: topics.filter((facts) => !usable.includes(facts) && offers(facts)) };
}

type Vectors = { state: VectorTopic[]; action: VectorTopic[]; others: VectorTopic[] };

/** Joint states and joint commands when there are any; else the busiest other topics of each kind. */
function chooseVectors(vectors: readonly VectorTopic[]): Vectors {
  const pick = (command: boolean) => {
    const all = vectors.filter((vector) => vector.command === command);
    const joints = all.filter((vector) => vector.joints);
    if (joints.length > 0) return joints;
    const telling = all.filter(({ probe }) =>
      /state|pose|odom|joint|arm|cmd|command|action/i.test(probe.topic),
    );
    return (telling.length > 0 ? telling : all).toSorted((a, b) => (b.hz ?? 0) - (a.hz ?? 0)).slice(0, 1);
  };
  const state = pick(false);
  const action = pick(true);
  return {
    state,
    action,
    others: vectors.filter((vector) => !state.includes(vector) && !action.includes(vector)),
  };
}

function clockOf(used: readonly TopicFacts[]): { value: 'header' | 'log'; why: string; stamped: boolean } {
  const unstamped = used.filter(({ probe }) => !probe.hasStamp).map(({ probe }) => probe.topic);
  const faulty = used.filter(({ stampFaults }) => stampFaults > 0).map(({ probe }) => probe.topic);
  const apart = clocksApart(used);
  if (used.length > 0 && unstamped.length === 0 && faulty.length === 0 && apart === undefined) {
    return {
      value: 'header',
      why: 'all topics carry time stamps: when a sample was taken, not when it was written',
      stamped: true,
    };
  }
  let why = 'when a message was written';
  if (unstamped.length > 0) why = `no time stamp in the messages of ${unstamped.join(', ')}`;
  else if (faulty.length > 0) why = `stamps that are zero or run backwards in ${faulty.join(', ')}`;
  else if (apart !== undefined) why = apart;
  return { value: 'log', why, stamped: false };
}

/** Seconds by which the stamps of two topics may lag behind the log differently and still be of one clock. */
const oneClock = 0.25;

/** Says which stamps come from clocks that do not agree: rows would then show what happened at different times. */
function clocksApart(used: readonly TopicFacts[]): string | undefined {
  const lags = used
    .flatMap(({ probe, stampLag }) => (stampLag ? [{ topic: probe.topic, lag: stampLag.min }] : []))
    .toSorted((a, b) => a.lag - b.lag);
  const [least, most] = [lags[0], lags.at(-1)];
  if (!least || !most || most.lag - least.lag <= oneClock) return undefined;
  const by = (most.lag - least.lag).toFixed(2);
  return `the stamps of ${least.topic} and ${most.topic} are of clocks that differ by about ${by} s`;
}

const usualRates = [5, 10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 90, 100, 120];

/** The slowest camera's rate, else the state's up to 60; measured rates are snapped to usual ones within 4 %. */
function rateOf(
  cameras: readonly TopicFacts[],
  vector: TopicFacts | undefined,
): { value: number; why: string } {
  const snapped = (hz: number) =>
    usualRates.find((rate) => Math.abs(rate - hz) <= rate * 0.04) ?? Math.max(1, Math.round(hz));
  const rates = cameras.flatMap(({ hz }) => (hz === null ? [] : [hz]));
  if (rates.length > 0) {
    const slowest = Math.min(...rates);
    return {
      value: Math.min(1000, snapped(slowest)),
      why: `the slowest camera has ${slowest.toFixed(2)} frames a second`,
    };
  }
  const { hz, probe } = vector ?? { hz: null };
  if (hz === null || !probe) return { value: 30, why: 'nothing in the recording suggests another rate' };
  if (hz > 61) return { value: 30, why: `${probe.topic} has ${hz.toFixed(1)} messages a second` };
  return { value: snapped(hz), why: `the state has ${hz.toFixed(2)} messages a second` };
}

function cameraLines(cameras: readonly TopicFacts[], stamped: boolean): string[] {
  const names = cameraNames(cameras);
  return cameras.flatMap(({ probe }, i) => {
    const { picture, topic } = probe;
    if (!picture) return [];
    const odd = !picture.depth && (picture.width % 2 === 1 || picture.height % 2 === 1);
    const even = (side: number) => Math.max(2, side - (side % 2));
    return [
      `  observation.images.${names[i]}: # ${picture.width}×${picture.height}`,
      `    topic: ${scalar(topic)}`,
      `    type: ${picture.depth ? 'depth' : 'video'}`,
      ...(odd
        ? [
            `    crop: {x: 0, y: 0, width: ${even(picture.width)}, height: ${even(picture.height)}} # video needs even sizes`,
          ]
        : []),
      ...(stamped || !probe.hasStamp ? [] : ['    # clock: header']),
    ];
  });
}

function vectorLines(key: string, vectors: readonly VectorTopic[]): string[] {
  const [only] = vectors;
  if (!only) return [];
  if (vectors.length === 1)
    return [`  ${key}: # ${valueCount(only.size)}`, ...sourceLines(only).map((line) => `    ${line}`)];
  return [
    `  ${key}: # ${valueCount(vectors.reduce((sum, { size }) => sum + size, 0))}`,
    '    concat:',
    ...vectors.flatMap((vector) =>
      sourceLines(vector).map((line, i) => `      ${i === 0 ? '- ' : '  '}${line}`),
    ),
  ];
}

function sourceLines({ probe, fields, names }: VectorTopic): string[] {
  const [first = '', ...others] = fields;
  return [
    `topic: ${scalar(probe.topic)}`,
    others.length === 0 ? `field: ${scalar(first)}` : `field: [${fields.map(scalar).join(', ')}]`,
    ...(names ? listLines('names', names.map(scalar)) : []),
  ];
}

/** A list in brackets, broken into lines of readable length. */
function listLines(key: string, items: readonly string[]): string[] {
  const lines: string[] = [];
  let line = `${key}: [`;
  for (const [i, item] of items.entries()) {
    const more = i === items.length - 1 ? `${item}]` : `${item}, `;
    if (line.length + more.length > 100) {
      lines.push(line.trimEnd());
      line = '  ';
    }
    line += more;
  }
  return [...lines, line];
}

function derivedAction(state: readonly VectorTopic[]): string[] {
  if (state.length === 0) return [];
  return [
    '  # No command topic was found: the next state stands for the action, and the last row of each episode goes.',
    '  action: {derive: next, from: observation.state}',
  ];
}

/** The task from a topic or metadata that look like it; never made up. */
function taskLines({ topics, metadata }: RecordingFacts): string[] {
  const wanted = /task|instruction|prompt|language/i;
  const topic = topics.find(({ probe }) => wanted.test(probe.topic) && textField(probe.first) !== undefined);
  const field = topic && textField(topic.probe.first);
  if (topic && field) return [`task: {topic: ${scalar(topic.probe.topic)}, field: ${field}, clock: log}`];
  for (const { name, entries } of metadata) {
    const key = Object.keys(entries).find(
      (entry) => wanted.test(entry) && (entries[entry] ?? '').trim() !== '',
    );
    if (key !== undefined)
      return [`task: {metadata: ${scalar(`${name}.${key}`)}} # ${oneLine(entries[key] ?? '')}`];
  }
  return ['# task: "What the robot does."   # needed here, or with each recording (--task)'];
}

function textField(first: unknown): string | undefined {
  if (!isRecord(first)) return undefined;
  return ['data', 'task', 'text', 'instruction'].find(
    (key) => typeof first[key] === 'string' && first[key] !== '',
  );
}

/** A slow topic needs more patience than the default 0.2 s. */
function alignLines(used: readonly TopicFacts[]): string[] {
  const longest = Math.max(
    0,
    ...used.map(({ hz, largestGap }) => Math.max(largestGap ?? 0, hz ? 1 / hz : 0)),
  );
  const slow = Math.max(0, ...used.map(({ hz }) => (hz ? 2.5 / hz : 0)));
  const note =
    longest > 0.2
      ? ` # the largest gap between two messages is ${longest.toFixed(2)} s; rows without a fresh sample are dropped`
      : '';
  return [
    `align: {method: hold, max_age: ${slow > 0.2 ? Number(slow.toPrecision(2)) : 0.2}, missing: drop}${note}`,
  ];
}

function leftOut(
  cameras: readonly TopicFacts[],
  vectors: readonly VectorTopic[],
  sparse: readonly TopicFacts[],
): string[] {
  const lines = [
    ...cameras.map(({ probe }) => `${probe.topic}: the same pictures in another form`),
    ...vectors.map(
      ({ probe, fields, size }) => `${probe.topic}: ${valueCount(size)} in ${fields.slice(0, 4).join(', ')}`,
    ),
    ...sparse.map(
      ({ probe, messages }) =>
        `${probe.topic}: ${messages} ${messages === 1 ? 'message' : 'messages'} on a part of the recording only`,
    ),
  ];
  return lines.length === 0 ? [] : ['  # Not used:', ...lines.map((line) => `  #   ${oneLine(line)}`)];
}

function valueCount(size: number): string {
  return size === 1 ? '1 value' : `${size} values`;
}

/** A text as a YAML scalar that stays a text, also within braces. */
function scalar(text: string): string {
  return /^[/A-Za-z_][\w/.-]*$/.test(text) && !/^(true|false|null|yes|no|on|off|y|n)$/i.test(text)
    ? text
    : JSON.stringify(text);
}

/** A text from a recording in a comment: one line, no surprises. */
function oneLine(text: string): string {
  const flat = text.replaceAll(/[\p{Cc}\u2028\u2029]+/gu, ' ');
  return flat.length > 120 ? `${flat.slice(0, 120)}…` : flat;
}
