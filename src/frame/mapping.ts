import { hint, refusal } from './faults.ts';
import { describe, readField } from './field-path.ts';
import { cameraFeature } from './camera.ts';
import type {
  Alignment,
  AlignSetting,
  CameraSetting,
  Clock,
  Column,
  Feature,
  FrameConfig,
  Mapping,
  Probe,
  Source,
  SourceSetting,
  Watch,
} from './types.ts';
import { namesOf } from './joint-names.ts';
import { watchesOf } from './watch.ts';
import { sentenceOf, vectorReader, type VectorReader } from './vector-reader.ts';

/** Every topic a config reads: features, timeline, task, episodes. */
export function topicsOf(config: FrameConfig): ReadonlySet<string> {
  const topics = new Set<string>();
  for (const setting of Object.values(config.features)) {
    if ('concat' in setting) for (const source of setting.concat) topics.add(source.topic);
    else if ('topic' in setting) topics.add(setting.topic);
  }
  if (config.timeline !== 'grid') topics.add(config.timeline.topic);
  for (const { topic } of watchesOf(config)) topics.add(topic);
  return topics;
}

/**
 * Resolves a config against the topics of a recording. Throws one `InputError` that lists every fault it can find:
 * for each, the feature, the topic, what was expected and what was there instead. `recording` gives its name and all
 * its topics for messages (without it, the probed topics stand for them), and whether it comes with a task of its
 * own, so that a task topic need not be there.
 */
export function resolveMapping(
  config: FrameConfig,
  probes: ReadonlyMap<string, Probe>,
  recording: {
    readonly recording?: string;
    readonly topics?: Iterable<string>;
    readonly taskGiven?: boolean;
  } = {},
): Mapping {
  const topics = new Set([...probes.keys(), ...(recording.topics ?? [])]);
  const draft: Draft = { config, probes, topics, features: [], columns: [], sources: [], faults: [] };
  for (const [key, setting] of Object.entries(config.features)) {
    if ('derive' in setting) continue;
    if ('concat' in setting) addVector(draft, key, setting.concat, setting);
    else if ('type' in setting) addCamera(draft, key, setting);
    else addVector(draft, key, [setting], {});
  }
  addDerived(draft);
  const reference = addReference(draft);
  const watches = resolveWatches(draft, recording.taskGiven ?? false);
  if (draft.faults.length > 0)
    throw refusal(recording.recording ?? 'the config does not fit the recording', draft.faults);
  const order = new Map(Object.keys(config.features).map((key, i) => [key, i]));
  const place = (key: string) => order.get(key) ?? 0;
  return {
    features: draft.features.toSorted((a, b) => place(a.key) - place(b.key)),
    columns: draft.columns.toSorted((a, b) => place(a.feature) - place(b.feature)),
    sources: draft.sources,
    reference,
    watches,
  };
}

type Draft = {
  readonly config: FrameConfig;
  readonly probes: ReadonlyMap<string, Probe>;
  readonly topics: ReadonlySet<string>;
  readonly features: Feature[];
  readonly columns: Column[];
  readonly sources: Source[];
  readonly faults: string[];
};

type Shared = { readonly clock?: Clock | undefined; readonly align?: AlignSetting | undefined };

function addVector(draft: Draft, key: string, settings: readonly SourceSetting[], shared: Shared): void {
  const readers: { reader: VectorReader; setting: SourceSetting }[] = [];
  const indexes: number[] = [];
  for (const [i, setting] of settings.entries()) {
    const where = settings.length === 1 ? `${key}` : `${key} (source ${i + 1})`;
    const clock = setting.clock ?? shared.clock ?? draft.config.clock;
    const probe = probeOf(draft, where, setting.topic, clock);
    if (!probe) continue;
    if (probe.picture) {
      draft.faults.push(
        `${where}: topic ${setting.topic} (${probe.schemaName}) is a camera: set 'type' to video, image or depth`,
      );
      continue;
    }
    try {
      const { others = [] } = probe;
      const several = others.length > 0;
      const first = others.find((message) => names(setting, message)) ?? probe.first;
      const reader = vectorReader(setting, first, several);
      readers.push({ reader, setting });
      const alignment = alignmentOf(draft.config, shared.align, setting.align);
      const fault = methodFault(alignment, reader);
      if (fault) draft.faults.push(`${where}: topic ${setting.topic}: ${fault}`);
      const base = { index: draft.sources.length, feature: key, topic: setting.topic, clock, alignment };
      indexes.push(base.index);
      draft.sources.push(
        reader.dtype === 'string'
          ? { ...base, kind: 'text', read: reader.read }
          : {
              ...base,
              kind: 'vector',
              size: reader.labels.length,
              read: reader.read,
              ...(several && { shared: true as const }),
            },
      );
    } catch (thrown) {
      draft.faults.push(`${where}: topic ${setting.topic} (${probe.schemaName}): ${sentenceOf(thrown)}`);
    }
  }
  if (readers.length !== settings.length) return;
  const feature = vectorFeature(key, readers);
  if (typeof feature === 'string') draft.faults.push(feature);
  else {
    draft.features.push(feature);
    draft.columns.push({ feature: key, sources: indexes });
  }
}

/** Whether a message names the first of the joints that a source wants. */
function names({ names: wanted }: SourceSetting, message: unknown): boolean {
  const [joint] = Array.isArray(wanted) ? (wanted as string[]) : [];
  return joint !== undefined && namesOf(message)?.names.includes(joint) === true;
}

/** The column of one or several readers, or a sentence why they do not go together. */
function vectorFeature(
  key: string,
  readers: readonly { reader: VectorReader; setting: SourceSetting }[],
): Feature | string {
  const [only] = readers;
  if (readers.length === 1 && only) {
    const { reader } = only;
    if (reader.dtype === 'string') return { key, dtype: 'string', shape: [1], names: null };
    const single = reader.dtype !== 'float32';
    const names = single && !reader.named ? null : reader.labels;
    return { key, dtype: reader.dtype, shape: [reader.labels.length], names };
  }
  const labels: { label: string; topic: string }[] = [];
  for (const { reader, setting } of readers) {
    if (reader.dtype === 'string')
      return `${key}: topic ${setting.topic} is a text and cannot be part of a vector`;
    labels.push(
      ...reader.labels.map((label) => ({
        label,
        topic: setting.topic.replace(/^\//, '').replaceAll('/', '.'),
      })),
    );
  }
  const times = new Map<string, number>();
  for (const { label } of labels) times.set(label, (times.get(label) ?? 0) + 1);
  const names = labels.map(({ label, topic }) => (times.get(label) === 1 ? label : `${topic}.${label}`));
  return { key, dtype: 'float32', shape: [names.length], names };
}

function addCamera(draft: Draft, key: string, setting: CameraSetting): void {
  const clock = setting.clock ?? draft.config.clock;
  const probe = probeOf(draft, key, setting.topic, clock);
  if (!probe) return;
  const alignment = alignmentOf(draft.config, undefined, setting.align);
  const made = cameraFeature(key, setting, probe, draft.config.video.pix_fmt);
  draft.faults.push(
    ...made.faults.map((fault) => `${key}: topic ${setting.topic} (${probe.schemaName}): ${fault}`),
  );
  if (alignment.method === 'linear' || alignment.method === 'slerp') {
    draft.faults.push(
      `${key}: topic ${setting.topic}: pictures cannot be interpolated (align.method '${alignment.method}')`,
    );
  }
  if (!made.feature) return;
  draft.columns.push({ feature: key, sources: [draft.sources.length] });
  draft.features.push(made.feature);
  draft.sources.push({
    index: draft.sources.length,
    feature: key,
    topic: setting.topic,
    clock,
    alignment,
    kind: 'picture',
  });
}

function addDerived(draft: Draft): void {
  for (const [key, setting] of Object.entries(draft.config.features)) {
    if (!('derive' in setting)) continue;
    if (setting.derive === 'done' || setting.derive === 'success') {
      draft.features.push({ key, dtype: 'bool', shape: [1], names: null });
      draft.columns.push({ feature: key, derive: setting.derive });
      continue;
    }
    const from = draft.features.find((feature) => feature.key === setting.from);
    if (!from) {
      if (!(setting.from in draft.config.features)) {
        draft.faults.push(
          `${key}: 'from' names no feature: '${setting.from}'${hint(setting.from, Object.keys(draft.config.features))}`,
        );
      }
      continue;
    }
    if (from.dtype !== 'float32') {
      draft.faults.push(`${key}: 'from' must be a vector of numbers, ${setting.from} is ${from.dtype}`);
      continue;
    }
    draft.features.push({ ...from, key });
    draft.columns.push({ feature: key, derive: setting.derive, from: setting.from });
  }
}

/** The source whose times are the rows: the first one of the topic, else one more that no feature uses. */
function addReference(draft: Draft): number | undefined {
  const { timeline, clock } = draft.config;
  if (timeline === 'grid') return undefined;
  const used = draft.sources.find((source) => source.topic === timeline.topic);
  if (used) return used.index;
  if (!probeOf(draft, 'timeline', timeline.topic, clock)) return undefined;
  const index = draft.sources.length;
  draft.sources.push({
    index,
    feature: 'timeline',
    topic: timeline.topic,
    clock,
    alignment: alignmentOf(draft.config),
    kind: 'reference',
  });
  return index;
}

/**
 * The topics that say something about episodes must be there, with the field, before anything is converted. Without a
 * clock of their own they go by the config's, and by log time where that is `header` and their messages have no stamp.
 */
function resolveWatches(draft: Draft, taskGiven: boolean): Watch[] {
  const called = { split: 'episodes.split', task: 'task', success: 'success' };
  const kinds = { split: ['boolean', 'number', 'bigint', 'string'], task: ['string'], success: ['boolean'] };
  return watchesOf(draft.config).flatMap(({ role, topic, field, clock: own }) => {
    if (role === 'task' && taskGiven) return [];
    const usual = draft.config.clock;
    const clock = own ?? (usual === 'header' && draft.probes.get(topic)?.hasStamp !== true ? 'log' : usual);
    const probe = probeOf(draft, called[role], topic, clock);
    if (!probe) return [];
    const place = `${called[role]}: topic ${topic} (${probe.schemaName})`;
    try {
      const value = readField(probe.first, field);
      if (kinds[role].includes(typeof value)) return [{ role, topic, field, clock }];
      const wanted = kinds[role].join(' or ');
      draft.faults.push(`${place}: expected a ${wanted} in field '${field}', found ${describe(value)}`);
    } catch (thrown) {
      draft.faults.push(`${place}: ${sentenceOf(thrown)}`);
    }
    return [];
  });
}

/** The probe of a topic that has messages and the clock that is asked for; else a fault is noted. */
function probeOf(draft: Draft, where: string, topic: string, clock: Clock): Probe | undefined {
  const probe = draft.probes.get(topic);
  if (!probe) {
    draft.faults.push(`${where}: topic ${topic} is not in the recording${hint(topic, draft.topics)}`);
    return undefined;
  }
  if (probe.first === undefined && !probe.picture) {
    draft.faults.push(`${where}: topic ${topic} (${probe.schemaName}) has no messages`);
    return undefined;
  }
  if (clock === 'header' && !probe.hasStamp) {
    draft.faults.push(
      `${where}: clock 'header' needs a time stamp in the message, ${probe.schemaName} on topic ${topic} has none: set clock to log or publish`,
    );
  }
  return probe;
}

/** Config defaults, then the feature's, then the source's; hold, 0.2 s, drop when none says. */
function alignmentOf(config: FrameConfig, ...settings: (AlignSetting | undefined)[]): Alignment {
  const all = [...settings.toReversed(), config.align];
  const pick = <K extends keyof AlignSetting>(key: K) =>
    all.find((setting) => setting?.[key] !== undefined)?.[key];
  return {
    method: pick('method') ?? 'hold',
    maxAge: BigInt(Math.round((pick('max_age') ?? 0.2) * 1e9)),
    missing: pick('missing') ?? 'drop',
  };
}

function methodFault({ method }: Alignment, reader: VectorReader): string | undefined {
  if (method !== 'linear' && method !== 'slerp') return undefined;
  if (reader.dtype !== 'float32')
    return `values of type ${reader.dtype} cannot be interpolated (align.method '${method}')`;
  const size = reader.labels.length;
  if (method === 'linear' || size === 4 || size === 7) return undefined;
  return `align.method 'slerp' needs a quaternion (x, y, z, w) or a pose (position, quaternion), found ${size} values`;
}
