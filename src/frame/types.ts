import type { Picture } from '../recording/types.ts';

export type { Picture };

/** Which of a message's times places it on the timeline. */
export type Clock = 'header' | 'log' | 'publish';

/** How a value is found for a row, and what happens when none qualifies (design: hold is causal). */
export type Alignment = {
  readonly method: 'hold' | 'nearest' | 'linear' | 'slerp';
  /** A sample further than this from the row does not qualify, in ns. */
  readonly maxAge: bigint;
  readonly missing: 'error' | 'drop' | 'hold';
};

export type Resize = { readonly width: number; readonly height: number };
export type Crop = {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
};

/** What is done to a camera's pictures before they are stored: crop, then resize, then rotate (clockwise). */
export type PictureTransform = {
  readonly crop?: Crop;
  readonly resize?: Resize;
  readonly rotate?: 90 | 180 | 270;
};

/**
 * One column of the dataset as LeRobot's `info.json` describes it, except the five default columns.
 * `shape` of a camera is [height, width, channels] after the transform.
 */
export type Feature = {
  readonly key: string;
  readonly dtype: 'float32' | 'float64' | 'int64' | 'bool' | 'string' | 'video' | 'image';
  readonly shape: readonly number[];
  readonly names: readonly string[] | null;
  /** Set for cameras. */
  readonly camera?: {
    /** Size of the recorded pictures, before the transform. */
    readonly width: number;
    readonly height: number;
    readonly transform: PictureTransform;
    /** Set for depth: the unit of recorded values. */
    readonly depthUnit?: 'mm' | 'm';
  };
};

/** The value of one feature in one row: a vector, a picture, or a text. */
export type FeatureValue = Float64Array | Picture | string;

/** One row of the dataset. `index` has no gaps within an episode, whatever was dropped before. */
export type AlignedFrame = {
  readonly index: number;
  /** The row's place on the timeline, ns. */
  readonly time: bigint;
  /** By feature key; every feature of the episode has a value. */
  readonly values: ReadonlyMap<string, FeatureValue>;
};

/** What alignment did to one source of one feature; every sample and every row is accounted for. */
export type SourceReport = {
  readonly feature: string;
  readonly topic: string;
  readonly clock: Clock;
  readonly method: Alignment['method'];
  /** Samples that arrived / that at least one row used / later than the reordering window / that did not decode. */
  readonly samples: number;
  readonly used: number;
  readonly late: number;
  readonly undecodable: number;
  /** Rows by how the value was found; `held` = an older sample again, or beyond `max_age` under `missing: hold`. */
  readonly exact: number;
  readonly held: number;
  readonly interpolated: number;
  /** Rows dropped because this source had nothing that qualified. */
  readonly dropped: number;
  /** Distance from row to sample in seconds over the rows kept; null without rows. */
  readonly age: { readonly p50: number; readonly p95: number; readonly max: number } | null;
  /** Largest gap between two samples in seconds. */
  readonly largestGap: number;
  /** Seconds by which header stamps lag behind log time (min, max), for clock `header`. */
  readonly stampLag?: { readonly min: number; readonly max: number };
};

/** The alignment report of an episode. */
export type AlignmentReport = {
  readonly rows: number;
  readonly droppedRows: number;
  readonly sources: readonly SourceReport[];
};
