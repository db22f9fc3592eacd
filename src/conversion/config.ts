import { createHash } from 'node:crypto';
import { z } from 'zod';
import { refusal } from '../frame/faults.ts';
import { isRecord } from '../frame/field-path.ts';
import { align, clock, feature, metadata, seconds, text, topicField } from './config-features.ts';
import { crossFaults } from './config-checks.ts';
import { distinct, faultsOf, pointerOf, type Fault } from './config-faults.ts';
import { readYaml, sentence } from './config-text.ts';

/**
 * The dataset config: one schema for the file (YAML or JSON), the API and the library. `parseDatasetConfig` reads it
 * from a text or an object; `configHash` names what it means.
 */

/** A word that becomes an argument of the encoder program. */
const word = (example: string) =>
  z
    .string()
    .regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]*$/, `expected letters, digits, '_', '.', '-' (like ${example})`);

const video = z.strictObject({
  codec: word('h264').default('h264').describe('h264, hevc, av1, or the name of any FFmpeg encoder.'),
  crf: z.int().min(0).max(63).default(23).describe('Quality: smaller is better and larger.'),
  gop: z
    .int()
    .positive()
    .default(2)
    .describe('Frames from one key frame to the next; 2 makes random access fast.'),
  preset: z
    .union([word('veryfast'), z.int().min(-2).max(20)])
    .default('veryfast')
    .transform(String)
    .describe("The encoder's trade of time for size."),
  pix_fmt: word('yuv420p').default('yuv420p').describe('Pixel format of the video.'),
  threads: z
    .int()
    .min(1)
    .max(64)
    .optional()
    .describe(
      'Threads of the encoder of each camera (h264, hevc, av1); without it two for depth and for a camera with most of the pixels, else one.',
    ),
  copy: z
    .enum(['never', 'auto'])
    .default('never')
    .describe(
      'auto: H.264 and H.265 topics are taken over without re-encoding where every row is one coded frame; ' +
        'pictures damaged inside stay as they were recorded.',
    ),
});

const fileName = text
  .regex(/^[^./\\][^/\\]*$/, 'expected a file name without folders')
  .refine((name) => !/\p{Cc}/u.test(name), 'expected a file name without control characters');

const split = z
  .union([
    z.literal('none'),
    z.strictObject({ gap: seconds.positive().describe('Seconds without a sample of any feature.') }),
    topicField.describe(
      "A new value begins an episode; false, negative numbers and '' are between episodes.",
    ),
    z.strictObject({
      marks: fileName.describe(
        'File beside each recording; {name} is the name of the recording without its ending.',
      ),
    }),
  ])
  .describe('Where a recording is cut into episodes.');

const tolerate = z.strictObject({
  undecodable: z
    .number()
    .min(0)
    .max(1)
    .default(0)
    .describe("Share of a topic's messages that may fail to decode."),
  late: z
    .number()
    .min(0)
    .max(1)
    .default(0)
    .describe("Share of a source's samples that `reorder` may leave out."),
  early_end: z
    .number()
    .min(0)
    .max(1)
    .default(0.4)
    .describe('Share of the recording that may be cut off because one source ends before the others.'),
});

const trim = z.strictObject({
  feature: text.describe('Key of the vector that tells whether the robot moves.'),
  threshold: z
    .number()
    .positive()
    .describe('Values that stay within this of where they came to rest are idle.'),
  keep: seconds.default(0.5).describe('Seconds kept before the first motion and after the last.'),
});

/** The schema of the dataset config; strict, with defaults, and with the checks between its parts. */
export const datasetConfig = z
  .strictObject({
    fps: z.int().positive().max(1000).describe('Rows a second.'),
    robot_type: text.optional().describe('Free text for the dataset.'),
    format: z.enum(['v3.0', 'v2.1']).default('v3.0').describe('Version of the LeRobot format.'),
    clock: clock.default('log'),
    timeline: z
      .union([z.literal('grid'), z.strictObject({ topic: text })])
      .default('grid')
      .describe('grid: rows at exactly fps; {topic}: a row for every message of that topic.'),
    task: z
      .union([text, topicField, metadata])
      .optional()
      .describe("Text of the task; a recording's own task wins."),
    features: z.record(z.string(), feature).describe('The columns of the dataset, in order.'),
    align: align.default({}).describe('How rows find their samples, unless a feature says otherwise.'),
    video: video.prefault({}),
    videos: z
      .strictObject({
        pack: z
          .boolean()
          .default(false)
          .describe('Join the videos of a camera into files of about 200 MB; they are stored twice.'),
      })
      .prefault({}),
    episodes: z.strictObject({ split: split.default('none') }).prefault({}),
    trim: trim.optional().describe('Cuts idle ends off every episode.'),
    publish: z
      .enum(['partial', 'complete'])
      .default('partial')
      .describe(
        'partial: the dataset of what succeeded and fits together, failures listed; complete: all or none.',
      ),
    tolerate: tolerate.prefault({}).describe('Shares of damage that do not fail an episode.'),
    reorder: seconds
      .default(1)
      .describe('Seconds by which stamps of one source may run backwards and still be put in order.'),
    recover: z
      .boolean()
      .default(true)
      .describe('Convert what is whole of a damaged recording, or (false) refuse it.'),
  })
  .superRefine((config, ctx) => {
    for (const { path, message } of crossFaults(config)) ctx.addIssue({ code: 'custom', path, message });
  });

/** No robot has more; what is more takes seconds to be refused column by column. */
const MOST_FEATURES = 1000;

/** A parsed dataset config, defaults filled in. */
export type DatasetConfig = z.output<typeof datasetConfig>;

/** A dataset config as it is written. */
export type DatasetConfigInput = z.input<typeof datasetConfig>;

/**
 * The config in a text (YAML, of which JSON is a part) or in an object that was read already. Throws one `InputError`
 * that lists every fault with its place in the config and, for a text, its line and column; `name` is the file's.
 */
export function parseDatasetConfig(input: unknown, name = 'config'): DatasetConfig {
  const { value, place } =
    typeof input === 'string' ? readYaml(input, name) : { value: input, place: () => '' };
  const faults = configFaults(value);
  if (faults.length === 0) return datasetConfig.parse(value);
  throw refusal(
    name,
    faults.map((fault) => sentence(fault, place)),
    { cause: datasetConfig.safeParse(value).error },
  );
}

/** Every fault of a config object, none when it is right; pointers are relative to the config. */
export function configFaults(input: unknown): Fault[] {
  const columns = isRecord(input) && isRecord(input['features']) ? Object.keys(input['features']).length : 0;
  if (columns > MOST_FEATURES) {
    return [{ pointer: '/features', detail: `expected at most ${MOST_FEATURES} columns, found ${columns}` }];
  }
  const result = datasetConfig.safeParse(input);
  if (result.success) return overlookedFaults(input);
  // The schema checks across keys only when each key is right by itself; all faults at once is what people need.
  const across = crossFaults(input).map(({ path, message }) => ({
    pointer: pointerOf(path),
    detail: message,
  }));
  return distinct([...faultsOf(datasetConfig, result.error, input), ...across, ...overlookedFaults(input)]);
}

/** The one key that the schema library leaves out of an object without a word. */
function overlookedFaults(input: unknown): Fault[] {
  const features = isRecord(input) ? input['features'] : undefined;
  if (!isRecord(features) || !Object.hasOwn(features, '__proto__')) return [];
  return [{ pointer: '/features/__proto__', detail: "'__proto__' cannot be the name of a column" }];
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

/** Whether a camera of the dataset is stored as video: then its conversion needs FFmpeg. */
export function hasVideo({ features }: DatasetConfig): boolean {
  return Object.values(features).some((feature) => 'type' in feature && feature.type === 'video');
}
