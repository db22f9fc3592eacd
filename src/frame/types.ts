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

/**
 * The value of one feature in one row: a vector (dtype `bool`: one 0 or 1; `int64`: one integer within ±2^53),
 * a picture, or a text. Values are shared between rows that hold the same sample: never write into one.
 */
export type FeatureValue = Float64Array | Picture | string;

/** One row of the dataset. `index` has no gaps within an episode, whatever was dropped before. */
export type AlignedFrame = {
  /** Position of the row's span in the episode plan; 0 when a recording is one episode. */
  readonly episode: number;
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
  /** Further messages of the topic, about none of the joints: another publisher's. */
  readonly foreign?: number;
  /**
   * Rows by how the value was found: `exact` = a sample that no earlier row used or that lies on the row, `held` = an
   * older sample again, or the last one under `missing: hold` when nothing qualifies, `interpolated` = between two samples. They add up to the rows kept.
   */
  readonly exact: number;
  readonly held: number;
  readonly interpolated: number;
  /** Rows dropped because this source had nothing that qualified. */
  readonly dropped: number;
  /**
   * Distance from row to sample in seconds over the rows kept (interpolated: to the further neighbour);
   * null without rows. `max` is exact, p50 and p95 are within 2.2 %.
   */
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
  /** Last rows of episodes that a feature derived from the next row leaves without a value. */
  readonly derivedRows: number;
  /** Rows of the timeline outside the episodes: between spans, or idle ends that were trimmed. */
  readonly outsideRows: number;
  readonly sources: readonly SourceReport[];
};

/** `align` as the config spells it; seconds. */
export type AlignSetting = {
  readonly method?: Alignment['method'] | undefined;
  readonly max_age?: number | undefined;
  readonly missing?: Alignment['missing'] | undefined;
};

/** One vector source as the config spells it. */
export type SourceSetting = {
  readonly topic: string;
  readonly field?: string | readonly string[] | undefined;
  readonly names?: 'all' | readonly string[] | undefined;
  readonly labels?: readonly string[] | undefined;
  readonly scale?: number | undefined;
  readonly offset?: number | undefined;
  readonly clock?: Clock | undefined;
  readonly align?: AlignSetting | undefined;
};

/** A camera as the config spells it. */
export type CameraSetting = {
  readonly topic: string;
  readonly type: 'video' | 'image' | 'depth';
  readonly crop?: Crop | undefined;
  readonly resize?: Resize | undefined;
  readonly rotate?: 90 | 180 | 270 | undefined;
  readonly clock?: Clock | undefined;
  readonly align?: AlignSetting | undefined;
};

/** Several sources in one vector. */
export type ConcatSetting = {
  readonly concat: readonly SourceSetting[];
  readonly clock?: Clock | undefined;
  readonly align?: AlignSetting | undefined;
};

/** A field of a topic that is not a feature. */
export type TopicField = {
  readonly topic: string;
  readonly field: string;
  readonly clock?: Clock | undefined;
};

/**
 * A column made from the rows: the next row's value of a vector, or the difference to it; whether the row is the last
 * of its episode; whether it is the last of an episode that succeeded.
 */
export type DeriveSetting =
  | { readonly derive: 'next' | 'delta'; readonly from: string }
  | { readonly derive: 'done' }
  | { readonly derive: 'success'; readonly from: TopicField | { readonly metadata: string } };

export type FeatureSetting = CameraSetting | ConcatSetting | DeriveSetting | SourceSetting;

/** What the frame stage reads of a dataset config; a parsed `DatasetConfig` fits by shape. */
export type FrameConfig = {
  readonly fps: number;
  readonly clock: Clock;
  readonly timeline: 'grid' | { readonly topic: string };
  readonly task?:
    | string
    | { readonly topic: string; readonly field: string }
    | { readonly metadata: string }
    | undefined;
  readonly features: Readonly<Record<string, FeatureSetting>>;
  readonly align: AlignSetting;
  readonly video: { readonly pix_fmt: string };
  readonly episodes: {
    readonly split: 'none' | { readonly gap: number } | TopicField | { readonly marks: string };
  };
  readonly trim?: { readonly feature: string; readonly threshold: number; readonly keep: number } | undefined;
  readonly tolerate: { readonly late: number; readonly early_end: number };
  /** Seconds. */
  readonly reorder: number;
};

/** What is known of a topic before a conversion starts: its first message, decoded. */
export type Probe = {
  readonly topic: string;
  readonly schemaName: string;
  /** The first message as plain values; undefined when the topic has no message. */
  readonly first: unknown;
  /** Set when several publishers share the topic: the first messages that name other joints than those before. */
  readonly others?: readonly unknown[];
  /** Whether the message type carries a time stamp (`header.stamp` or `stamp`/`timestamp`). */
  readonly hasStamp: boolean;
  /** Set when the messages are pictures. */
  readonly picture?: {
    readonly width: number;
    readonly height: number;
    readonly channels: 1 | 3;
    readonly depth: boolean;
    /** Set for 16-bit levels that the recording calls light (mono16): a camera may store them as colours, too. */
    readonly light?: true;
    /** Set for the pictures of a video stream. */
    readonly coded?: 'h264' | 'h265';
    /** Unit of depth values: integers are mm (the default), floats are m. */
    readonly depthUnit?: 'mm' | 'm';
  };
};

type SourceBase = {
  /** Position in `Mapping.sources`. */
  readonly index: number;
  /** Feature key; for kind `reference` the word `timeline`. */
  readonly feature: string;
  readonly topic: string;
  readonly clock: Clock;
  readonly alignment: Alignment;
};

/**
 * One stream of samples. `read` takes a decoded message and throws `InputError` (topic, field, what was there)
 * when the message does not fit what the first one promised. A `reference` source gives row times only.
 */
export type Source = SourceBase &
  (
    | {
        readonly kind: 'vector';
        readonly size: number;
        /** Undefined for a message that is about none of the joints, on a topic that several publishers share. */
        readonly read: (decoded: unknown) => Float64Array | undefined;
        readonly shared?: true;
      }
    | { readonly kind: 'text'; readonly read: (decoded: unknown) => string }
    | { readonly kind: 'picture' }
    | { readonly kind: 'reference' }
  );

/** How one feature is put together from sources (by index, in order), or from another feature's rows. */
export type Column =
  | { readonly feature: string; readonly sources: readonly number[] }
  | { readonly feature: string; readonly derive: 'next' | 'delta'; readonly from: string }
  | { readonly feature: string; readonly derive: 'done' | 'success' };

/** A config resolved against one recording. */
export type Mapping = {
  readonly features: readonly Feature[];
  readonly sources: readonly Source[];
  /** One a feature, in the order of `features`. */
  readonly columns: readonly Column[];
  /** Index of the source whose sample times are the rows; undefined for the grid. */
  readonly reference: number | undefined;
  /** Topics that say something about episodes. */
  readonly watches: readonly Watch[];
};

/** A topic whose messages say something about episodes: where they are cut, what the task is, how they ended. */
export type Watch = {
  readonly role: 'split' | 'task' | 'success';
  readonly topic: string;
  readonly field: string;
  readonly clock: Clock;
};

/** What is known of one source's samples before alignment; late samples are counted and otherwise ignored. Times in ns. */
export type SourceExtent = {
  /** Samples in time. */
  readonly count: number;
  /** Samples later than the reordering window. */
  readonly late: number;
  /** Messages that are no samples: too damaged to tell their time, or of another publisher on the topic. */
  readonly apart: number;
  readonly first: bigint;
  readonly last: bigint;
  /** Log time minus sample time. */
  readonly minLag: bigint;
  readonly maxLag: bigint;
  /** Largest step backwards from the latest sample before it, ≥ 0. */
  readonly backward: bigint;
};

/** The part of the timeline on which every source has samples. Rows lie in [t0, tEnd]. */
export type TimelineExtent = {
  /** By source index. */
  readonly sources: readonly SourceExtent[];
  readonly t0: bigint;
  readonly tEnd: bigint;
  /** Rows of the grid; with a reference topic an upper bound. */
  readonly expectedRows: number;
};

/** One stretch of the timeline that becomes an episode; times inclusive, ns. */
export type EpisodeSpan = {
  readonly start: bigint;
  readonly end: bigint;
  readonly task: string;
  /** Set when the config asks for `next.success`. */
  readonly success?: boolean;
};

/** One sample on its way to a row. */
export type Sample = {
  readonly time: bigint;
  readonly logTime: bigint;
  /** Undefined for a reference source only. */
  readonly value: FeatureValue | undefined;
  /** Memory it holds. */
  readonly bytes: number;
};
