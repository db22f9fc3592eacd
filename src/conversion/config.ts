import { createHash } from 'node:crypto';
import { z } from 'zod';
import { toError } from '../errors.ts';
import { parseFieldPath } from '../frame/field-path.ts';
import { refusal } from '../frame/faults.ts';
import { crossFaults } from './config-checks.ts';
import { distinct, faultsOf, pointerOf, type Fault } from './config-faults.ts';
import { readYaml, sentence } from './config-text.ts';

/**
 * The dataset config: one schema for the file (YAML or JSON), the API and the library. `parseDatasetConfig` reads it
 * from a text or an object; `configHash` names what it means.
 */

const text = z.string().min(1);
const seconds = z.number().min(0);

/** A word that becomes an argument of the encoder program. */
const word = (example: string) =>
  z
    .string()
    .regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]*$/, `expected letters, digits, '_', '.', '-' (like ${example})`);

const align = z.strictObject({
  method: z.enum(['hold', 'nearest', 'linear', 'slerp']).optional(),
  max_age: seconds.optional(),
  missing: z.enum(['error', 'drop', 'hold']).optional(),
});

const clock = z.enum(['header', 'log', 'publish']);

const fieldPath = text.superRefine((path, ctx) => {
  try {
    parseFieldPath(path);
  } catch (thrown) {
    ctx.addIssue({ code: 'custom', message: toError(thrown).message });
  }
});

const topicField = z.strictObject({ topic: text, field: fieldPath, clock: clock.optional() });
const metadata = z.strictObject({ metadata: text });

const source = z.strictObject({
  topic: text,
  field: z.union([fieldPath, z.array(fieldPath).min(1)]).optional(),
  names: z.union([z.literal('all'), z.array(text).min(1)]).optional(),
  labels: z.array(text).min(1).optional(),
  scale: z.number().optional(),
  offset: z.number().optional(),
  clock: clock.optional(),
  align: align.optional(),
});

const size = { width: z.int().positive().max(16_384), height: z.int().positive().max(16_384) };

const camera = z.strictObject({
  topic: text,
  type: z.enum(['video', 'image', 'depth']),
  crop: z.strictObject({ x: z.int().min(0), y: z.int().min(0), ...size }).optional(),
  resize: z.strictObject(size).optional(),
  rotate: z.literal([90, 180, 270]).optional(),
  clock: clock.optional(),
  align: align.optional(),
});

const concat = z.strictObject({
  concat: z.array(source).min(1),
  clock: clock.optional(),
  align: align.optional(),
});

/** The last row of an episode has no next one and is dropped. */
const derived = z.strictObject({ derive: z.enum(['next', 'delta']), from: text });
/** True on the last row of each episode; `success` only if the episode succeeded, which `from` or its mark says. */
const done = z.strictObject({ derive: z.literal('done') });
const success = z.strictObject({ derive: z.literal('success'), from: z.union([topicField, metadata]) });

const video = z.strictObject({
  /** h264, hevc, av1, or the name of any FFmpeg encoder. */
  codec: word('h264').default('h264'),
  crf: z.int().min(0).max(63).default(23),
  gop: z.int().positive().default(2),
  preset: z
    .union([word('veryfast'), z.int().min(-2).max(20)])
    .default('veryfast')
    .transform(String),
  pix_fmt: word('yuv420p').default('yuv420p'),
  /** `auto` takes H.264 topics over without re-encoding when every row is one coded frame. */
  copy: z.enum(['never', 'auto']).default('never'),
});

const fileName = text.regex(/^(?!\.)[^/\\\p{Cc}]+$/u, 'expected a file name without folders');

const split = z.union([
  z.literal('none'),
  z.strictObject({ gap: z.number().positive() }),
  /** A new value begins an episode; false, negative numbers and '' are between episodes. */
  topicField,
  /** Name of a file beside each recording; `{name}` stands for the recording's name without its ending. */
  z.strictObject({ marks: fileName }),
]);

/** Shares of damage that do not fail an episode. */
const tolerate = z.strictObject({
  /** Share of a topic's messages that may fail to decode. */
  undecodable: z.number().min(0).max(1).default(0),
  /** Share of a source's samples that may arrive later than `reorder` allows. */
  late: z.number().min(0).max(1).default(0),
  /** Share of the recording that may be cut off because one source ends before the others. */
  early_end: z.number().min(0).max(1).default(0.4),
});

/** The schema of the dataset config; strict, with defaults, and with the checks between its parts. */
export const datasetConfig = z
  .strictObject({
    fps: z.int().positive().max(1000),
    robot_type: text.optional(),
    format: z.enum(['v3.0', 'v2.1']).default('v3.0'),
    clock: clock.default('log'),
    timeline: z.union([z.literal('grid'), z.strictObject({ topic: text })]).default('grid'),
    task: z.union([text, topicField, metadata]).optional(),
    features: z.record(
      z.string(),
      z.union([camera, concat, z.discriminatedUnion('derive', [derived, done, success]), source]),
    ),
    align: align.default({}),
    video: video.prefault({}),
    /** Joins the videos of many episodes into files of about 200 MB when a dataset is finalized. */
    videos: z.strictObject({ pack: z.boolean().default(false) }).prefault({}),
    episodes: z.strictObject({ split: split.default('none') }).prefault({}),
    trim: z
      .strictObject({ feature: text, threshold: z.number().positive(), keep: seconds.default(0.5) })
      .optional(),
    publish: z.enum(['partial', 'complete']).default('partial'),
    tolerate: tolerate.prefault({}),
    /** Seconds by which stamps of one source may run backwards and still be put in order. */
    reorder: seconds.default(1),
    /** Convert what is whole of a damaged recording (true), or refuse it. */
    recover: z.boolean().default(true),
  })
  .superRefine((config, ctx) => {
    for (const { path, message } of crossFaults(config)) ctx.addIssue({ code: 'custom', path, message });
  });

/** A parsed dataset config, defaults filled in. */
export type DatasetConfig = z.output<typeof datasetConfig>;

/**
 * The config in a text (YAML, of which JSON is a part) or in an object that was read already. Throws one `InputError`
 * that lists every fault with its place in the config and, for a text, its line and column; `name` is the file's.
 */
export function parseDatasetConfig(input: unknown, name = 'config'): DatasetConfig {
  const { value, place } =
    typeof input === 'string' ? readYaml(input, name) : { value: input, place: () => '' };
  const result = datasetConfig.safeParse(value);
  if (result.success) return result.data;
  throw refusal(
    name,
    configFaults(value).map((fault) => sentence(fault, place)),
    { cause: result.error },
  );
}

/** Every fault of a config object, none when it is right; pointers are relative to the config. */
export function configFaults(input: unknown): Fault[] {
  const result = datasetConfig.safeParse(input);
  if (result.success) return [];
  // The schema checks across keys only when each key is right by itself; all faults at once is what people need.
  const across = crossFaults(input).map(({ path, message }) => ({
    pointer: pointerOf(path),
    detail: message,
  }));
  return distinct([...faultsOf(datasetConfig, result.error, input), ...across]);
}

/** JSON Schema (draft 2020-12) of the config as it is written, for editors and the API description. */
export function configJsonSchema(): object {
  return z.toJSONSchema(datasetConfig, { io: 'input' });
}

/**
 * Names what a config means: sha256 (hex) of its canonical JSON. The order of `features` counts, because it is the
 * order of the columns; the order of all other keys does not.
 */
export function configHash(config: DatasetConfig): string {
  const ordered = { ...config, features: Object.entries(config.features) };
  return createHash('sha256').update(canonicalJson(ordered)).digest('hex');
}

function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}
