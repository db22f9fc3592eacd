import { z } from 'zod';

/** The dataset config: one object for the file (YAML or JSON), the API and the library. */

const align = z.strictObject({
  method: z.enum(['hold', 'nearest', 'linear', 'slerp']).optional(),
  max_age: z.number().positive().optional(),
  missing: z.enum(['error', 'drop', 'hold']).optional(),
});

const clock = z.enum(['header', 'log', 'publish']);
const names = z.union([z.literal('all'), z.array(z.string().min(1)).min(1)]);

const source = z.strictObject({
  topic: z.string().min(1),
  field: z.union([z.string().min(1), z.array(z.string().min(1)).min(1)]).optional(),
  names: names.optional(),
  labels: z.array(z.string()).optional(),
  scale: z.number().optional(),
  offset: z.number().optional(),
  clock: clock.optional(),
  align: align.optional(),
});

const size = { width: z.int().positive(), height: z.int().positive() };

const camera = z.strictObject({
  topic: z.string().min(1),
  type: z.enum(['video', 'image', 'depth']),
  field: z.string().optional(),
  crop: z.strictObject({ x: z.int().min(0), y: z.int().min(0), ...size }).optional(),
  resize: z.strictObject(size).optional(),
  rotate: z.union([z.literal(90), z.literal(180), z.literal(270)]).optional(),
  clock: clock.optional(),
  align: align.optional(),
});

const concat = z.strictObject({
  concat: z.array(source).min(1),
  align: align.optional(),
  clock: clock.optional(),
});
const derived = z.strictObject({ derive: z.enum(['next', 'delta']), from: z.string().min(1) });

export const datasetConfig = z.strictObject({
  fps: z.int().positive().max(1000),
  robot_type: z.string().optional(),
  format: z.enum(['v3.0', 'v2.1']).default('v3.0'),
  clock: clock.default('log'),
  timeline: z.union([z.literal('grid'), z.strictObject({ topic: z.string().min(1) })]).default('grid'),
  task: z
    .union([
      z.string().min(1),
      z.strictObject({ topic: z.string().min(1), field: z.string().min(1) }),
      z.strictObject({ metadata: z.string().min(1) }),
    ])
    .optional(),
  features: z.record(z.string(), z.union([camera, concat, derived, source])),
  align: align.default({}),
  video: z
    .strictObject({
      codec: z.string().default('h264'),
      crf: z.int().min(0).max(63).default(23),
      gop: z.int().positive().default(2),
      preset: z.string().default('veryfast'),
      pix_fmt: z.string().default('yuv420p'),
    })
    .prefault({}),
  episodes: z
    .strictObject({
      split: z.union([
        z.literal('none'),
        z.strictObject({ gap: z.number().positive() }),
        z.strictObject({ topic: z.string().min(1), field: z.string().min(1) }),
        z.strictObject({ marks: z.string().min(1) }),
      ]),
    })
    .default({ split: 'none' }),
  trim: z
    .strictObject({ feature: z.string(), threshold: z.number().positive(), keep: z.number().min(0) })
    .optional(),
  publish: z.enum(['partial', 'complete']).default('partial'),
  /** Shares of damage that do not fail an episode (all default to none but `early_end`). */
  tolerate: z
    .strictObject({
      /** Share of a topic's messages that may fail to decode. */
      undecodable: z.number().min(0).max(1).default(0),
      /** Share of a source's samples that may arrive later than `reorder` allows. */
      late: z.number().min(0).max(1).default(0),
      /** Share of the recording that may be cut off because one source ends before the others. */
      early_end: z.number().min(0).max(1).default(0.25),
    })
    .prefault({}),
  /** Seconds by which stamps of one source may run backwards and still be put in order. */
  reorder: z.number().min(0).default(1),
  /** Convert what is whole of a damaged recording (true), or refuse it. */
  recover: z.boolean().default(true),
});

export type DatasetConfig = z.output<typeof datasetConfig>;
