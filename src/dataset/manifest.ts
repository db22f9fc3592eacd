import { z } from 'zod';
import { InputError } from '../errors.ts';
import type { EpisodeManifest } from './types.ts';

const numbers = z.array(z.number());
const count = z.int().min(0);
/** Of 8-bit values. Checked in one go: most of a manifest's numbers are these. */
const counts = z.custom<number[]>(
  (value) =>
    Array.isArray(value) &&
    value.length === 256 &&
    value.every((each) => Number.isSafeInteger(each) && each >= 0),
  'expected 256 counts',
);
const nanoseconds = z.string().regex(/^-?\d+$/, 'expected nanoseconds as decimal text');

const stats = z.strictObject({
  min: numbers,
  max: numbers,
  mean: numbers,
  std: numbers,
  count,
  q01: numbers,
  q10: numbers,
  q50: numbers,
  q90: numbers,
  q99: numbers,
});

const size = { width: z.int().positive(), height: z.int().positive() };

const feature = z.strictObject({
  key: z.string().min(1),
  dtype: z.enum(['float32', 'float64', 'int64', 'bool', 'string', 'video', 'image']),
  shape: z.array(z.int().positive()).min(1),
  names: z.array(z.string()).nullable(),
  camera: z
    .strictObject({
      ...size,
      transform: z.strictObject({
        crop: z.strictObject({ x: count, y: count, ...size }).optional(),
        resize: z.strictObject(size).optional(),
        rotate: z.union([z.literal(90), z.literal(180), z.literal(270)]).optional(),
      }),
      depthUnit: z.enum(['mm', 'm']).optional(),
    })
    .optional(),
});

const part = z.strictObject({
  frames: z.int().positive(),
  tasks: z.array(z.string().min(1)).min(1),
  firstFrame: count,
  startTime: nanoseconds,
  endTime: nanoseconds,
  stats: z.record(z.string(), stats),
  histograms: z.record(z.string(), z.array(counts).min(1)),
});

const file = z.strictObject({
  path: z.string().min(1),
  type: z.enum(['parquet', 'video', 'meta']),
  bytes: count,
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  feature: z.string().optional(),
  episode: count.optional(),
  frames: count,
});

const intrinsics = z.strictObject({
  topic: z.string(),
  width: count,
  height: count,
  distortionModel: z.string(),
  d: z.array(z.number()),
  k: z.array(z.number()),
  r: z.array(z.number()),
  p: z.array(z.number()),
});

const age = z.strictObject({ p50: z.number(), p95: z.number(), max: z.number() });

const sourceReport = z.looseObject({
  feature: z.string(),
  topic: z.string(),
  clock: z.enum(['header', 'log', 'publish']),
  method: z.enum(['hold', 'nearest', 'linear', 'slerp']),
  samples: count,
  used: count,
  late: count,
  undecodable: count,
  exact: count,
  held: count,
  interpolated: count,
  dropped: count,
  age: age.nullable(),
  largestGap: z.number(),
  stampLag: z.strictObject({ min: z.number(), max: z.number() }).optional(),
});

const manifest = z.strictObject({
  version: z.literal(1),
  format: z.enum(['v3.0', 'v2.1']).optional(),
  key: z.string().regex(/^[A-Za-z0-9_-]+$/, 'expected letters, digits, "-" and "_"'),
  slot: count,
  edition: z.int().positive().optional(),
  source: z.strictObject({ url: z.string(), size: count, etag: z.string() }),
  configHash: z.string(),
  converter: z.strictObject({ version: z.string(), encoder: z.string().nullable() }),
  fps: z.int().positive(),
  robotType: z.string().nullable(),
  features: z.array(feature).min(1),
  videoInfo: z.record(z.string(), z.record(z.string(), z.unknown())),
  copies: z
    .record(z.string(), z.strictObject({ copied: z.boolean(), reason: z.string().optional() }))
    .optional(),
  intrinsics: z.record(z.string(), intrinsics).optional(),
  episodes: z.array(part).min(1),
  files: z.array(file).min(1),
  alignment: z.looseObject({
    rows: count,
    droppedRows: count,
    derivedRows: count,
    outsideRows: count,
    sources: z.array(sourceReport),
  }),
  losses: z.array(
    z.strictObject({ what: z.string(), count: z.number().optional(), bytes: z.number().optional() }),
  ),
});

/** The bytes of a manifest: the same for the same content, keys in the order of the schema. */
export function serializeManifest(value: EpisodeManifest): Uint8Array {
  return new TextEncoder().encode(`${JSON.stringify(checked(value, value.key))}\n`);
}

/** Reads a manifest; throws `InputError` naming `name` and every fault when it is not one. */
export function parseManifest(bytes: Uint8Array, name: string): EpisodeManifest {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new InputError(`${name}: expected the manifest of an episode, found something that is no JSON`, {
      cause,
    });
  }
  return checked(value, name);
}

function checked(value: unknown, name: string): EpisodeManifest {
  const result = manifest.safeParse(value);
  if (!result.success) {
    const faults = result.error.issues.map(
      (issue) => `${issue.path.join('.') || 'manifest'}: ${issue.message}`,
    );
    throw new InputError(`${name}: not the manifest of an episode: ${faults.join('; ')}`, {
      cause: result.error,
    });
  }
  return result.data as unknown as EpisodeManifest;
}

/** Paths and lengths of the files a manifest names; undefined when the bytes are no manifest. */
export function manifestFiles(bytes: Uint8Array): readonly { path: string; bytes: number }[] | undefined {
  try {
    return parseManifest(bytes, 'manifest').files;
  } catch (error) {
    if (error instanceof InputError) return undefined;
    throw error;
  }
}
