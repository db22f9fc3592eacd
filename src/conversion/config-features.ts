import { z } from 'zod';
import { toError } from '../errors.ts';
import { parseFieldPath } from '../frame/field-path.ts';

/** Schemas of the `features` of a dataset config, and the parts that other settings share with them. */

/** A text that is not empty. */
export const text = z.string().min(1);

/** A length of time, s. The limit, some thirty thousand years, keeps it a number of nanoseconds. */
export const seconds = z.number().min(0).max(1e12);

/** Which of a message's times places it on the timeline. */
export const clock = z
  .enum(['header', 'log', 'publish'])
  .describe(
    'Which time of a message counts: its header stamp, when it was logged, or when it was published.',
  );

/** How rows find their sample in a source. */
export const align = z.strictObject({
  method: z
    .enum(['hold', 'nearest', 'linear', 'slerp'])
    .optional()
    .describe(
      'hold: the latest sample not after the row (default); nearest; linear or slerp between the neighbours.',
    ),
  max_age: seconds
    .optional()
    .describe('Seconds from row to sample beyond which it does not qualify; default 0.2.'),
  missing: z
    .enum(['error', 'drop', 'hold'])
    .optional()
    .describe(
      'When no sample qualifies: fail the episode, drop the row (default), or use the last value anyway.',
    ),
});

const alignOption = align.optional().describe('Settings of its own; the rest comes from `align` at the top.');
const topic = text.describe('Topic as it is spelled in the recording.');

const fieldPath = text
  .superRefine((path, ctx) => {
    try {
      parseFieldPath(path);
    } catch (thrown) {
      ctx.addIssue({ code: 'custom', message: toError(thrown).message });
    }
  })
  .describe('Dotted path into the message; [i] picks an element of an array, [i:j] a range.');

/** A field of a topic that is not a feature. */
export const topicField = z.strictObject({ topic, field: fieldPath, clock: clock.optional() });

/** An entry of the recording's metadata. */
export const metadata = z.strictObject({
  metadata: text.describe('Name of the metadata record, a dot, and the key: `episode.task`.'),
});

const source = z.strictObject({
  topic,
  field: z
    .union([fieldPath, z.array(fieldPath).min(1)])
    .optional()
    .describe(
      'Where the values are; a list is concatenated. Not needed when the message has one field only.',
    ),
  names: z
    .union([z.literal('all'), z.array(text).min(1)])
    .optional()
    .describe(
      "Picks and orders values by the message's joint names; `all` takes the order of the first message.",
    ),
  labels: z.array(text).min(1).optional().describe('Names of the values in the dataset, one a value.'),
  scale: z.number().optional().describe('Every value is multiplied by this, before the offset.'),
  offset: z.number().optional().describe('Added to every value.'),
  clock: clock.optional(),
  align: alignOption,
});

const size = { width: z.int().positive().max(16_384), height: z.int().positive().max(16_384) };

const camera = z.strictObject({
  topic,
  type: z
    .enum(['video', 'image', 'depth'])
    .describe(
      'video: one mp4 a camera; image: pictures in the table, depth as TIFF; depth: 16-bit or float pictures as video.',
    ),
  crop: z
    .strictObject({ x: z.int().min(0), y: z.int().min(0), ...size })
    .optional()
    .describe('Part of the recorded picture that is kept; done first.'),
  resize: z.strictObject(size).optional().describe('Size after the crop.'),
  rotate: z.literal([90, 180, 270]).optional().describe('Degrees clockwise; done last.'),
  clock: clock.optional(),
  align: alignOption,
});

const concat = z.strictObject({
  concat: z.array(source).min(1).describe('Sources whose values are put one after the other.'),
  clock: clock.optional(),
  align: alignOption,
});

const derived = z.strictObject({
  derive: z
    .enum(['next', 'delta'])
    .describe('The next row of a vector, or the difference to it; the last row of each episode is dropped.'),
  from: text.describe('Key of the vector.'),
});

const done = z.strictObject({
  derive: z.literal('done').describe('True on the last row of each episode.'),
});

const success = z.strictObject({
  derive: z.literal('success').describe('True on the last row of each episode that succeeded.'),
  from: z
    .union([topicField, metadata])
    .describe('What says so, unless a mark does: the last message, or metadata.'),
});

/** One column of the dataset. */
export const feature = z.union([
  camera,
  concat,
  z.discriminatedUnion('derive', [derived, done, success]),
  source,
]);
