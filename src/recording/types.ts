/** Random access to the bytes of one object; the shape of `@mcap/core`'s `IReadable`. */
export interface ByteSource {
  /** Total size in bytes. */
  size(): Promise<bigint>;
  /**
   * Exactly `length` bytes from `offset`; throws when the range leaves the object. They may come in `into`, memory of
   * `length` bytes; without it the result may be kept.
   */
  read(offset: bigint, length: bigint, into?: Uint8Array): Promise<Uint8Array>;
  /** Tells that this very range will be read soon: a source that is far away may fetch it already. */
  willRead?(offset: bigint, length: bigint): void;
}

/** One opened file of a recording. `path` is set when the bytes lie on this machine's file system. */
export interface RecordingFile extends ByteSource {
  readonly path?: string;
  close(): Promise<void>;
}

/**
 * What a recording is made of: one file, or the files of a rosbag2 folder.
 * `files` are names relative to the folder (for a single file: its base name, then that of the log beside it, if any).
 */
export type RecordingFiles = {
  /** URL or path as the user gave it, for messages. */
  readonly name: string;
  readonly folder: boolean;
  readonly files: readonly string[];
  open(file: string): Promise<RecordingFile>;
};

/** The definition of a message type as the file carries it. */
export type Schema = {
  readonly name: string;
  /** `ros2msg`, `ros2idl`, `ros1msg`, `protobuf`, `jsonschema`, … as spelled in the file; '' when absent. */
  readonly encoding: string;
  readonly data: Uint8Array;
};

/** One stream of messages of one type. Several channels may share a topic (ROS 1 connections). */
export type Channel = {
  readonly id: number;
  readonly topic: string;
  /** `cdr`, `ros1`, `protobuf`, `json`, … as spelled in the file. */
  readonly messageEncoding: string;
  readonly schema: Schema;
  /** Number of messages when the file says so. */
  readonly messageCount?: number;
  readonly metadata: ReadonlyMap<string, string>;
};

/** One recorded payload. `data` is valid until the next message is pulled, unless copied. Times in ns. */
export type Message = {
  readonly channel: Channel;
  readonly logTime: bigint;
  readonly publishTime: bigint;
  readonly data: Uint8Array;
  /** Position in the file for messages about it: a byte offset or a row number, as text. */
  readonly position: string;
};

/** Something a damaged recording no longer holds, in words and numbers. */
export type Loss = { readonly what: string; readonly count?: number; readonly bytes?: number };

/** First and last log time of a topic in ns, and its number of messages. */
export type TopicRange = { readonly first: bigint; readonly last: bigint; readonly count: number };

/** An opened recording: what it holds, and its messages in order of log time. */
export interface Recording {
  readonly container: 'mcap' | 'rosbag1' | 'rosbag2';
  readonly channels: readonly Channel[];
  /** Earliest and latest log time in ns; both 0n when there is no message. */
  readonly startTime: bigint;
  readonly endTime: bigint;
  /** Named metadata records (MCAP metadata, rosbag2 custom data), in file order. */
  readonly metadata: readonly { readonly name: string; readonly entries: ReadonlyMap<string, string> }[];
  /** Library and profile that wrote it, as far as the file tells. */
  readonly writtenBy: string;
  /** What recovery had to leave out; grows while messages are read. */
  readonly losses: readonly Loss[];
  /**
   * Log-time ranges by topic when indexes alone tell them (no message data read); undefined otherwise.
   */
  topicRanges(): Promise<ReadonlyMap<string, TopicRange> | undefined>;
  /**
   * Messages in order of log time (ties: file order), times inclusive. Reads one chunk at a time; memory does not
   * grow with the recording.
   */
  messages(options?: {
    topics?: ReadonlySet<string>;
    start?: bigint;
    end?: bigint;
    signal?: AbortSignal;
  }): AsyncIterable<Message>;
  close(): Promise<void>;
}

/** Turns the payload of one channel into plain values (objects, arrays, typed arrays, bigint for 64 bit). */
export type Decoder = (data: Uint8Array) => unknown;

/** Pixel layout of a raw picture, in FFmpeg's words. */
export type PixelFormat =
  | 'rgb24'
  | 'bgr24'
  | 'rgba'
  | 'bgra'
  | 'rgb48le'
  | 'bgr48le'
  | 'rgba64le'
  | 'bgra64le'
  | 'gray'
  | 'gray16le'
  | 'grayf32le'
  | 'yuyv422'
  | 'uyvy422'
  | 'nv12'
  | 'nv21'
  | 'yuv420p'
  | 'bayer_rggb8'
  | 'bayer_bggr8'
  | 'bayer_gbrg8'
  | 'bayer_grbg8'
  | 'bayer_rggb16le'
  | 'bayer_bggr16le'
  | 'bayer_gbrg16le'
  | 'bayer_grbg16le';

/** One camera image as recorded. Raw rows are packed (no padding), samples little-endian. */
export type Picture =
  | {
      readonly format: 'jpeg' | 'png';
      readonly width: number;
      readonly height: number;
      readonly data: Uint8Array;
      /** The recording calls its 16-bit levels light (mono16), not depth. */
      readonly light?: true;
    }
  | {
      readonly format: 'raw';
      readonly pixelFormat: PixelFormat;
      readonly width: number;
      readonly height: number;
      readonly data: Uint8Array;
      readonly light?: true;
    }
  | {
      /** One coded picture of a stream, Annex B. Width and height are 0 before the first key frame. */
      readonly format: 'h264' | 'h265';
      readonly width: number;
      readonly height: number;
      readonly data: Uint8Array;
      readonly keyframe: boolean;
      /** Sent out of the order in which it is shown. */
      readonly bFrame?: true;
      readonly order?: PictureOrder;
    };

/** A coded picture's own number: it wraps around at `modulus`, and shows when a picture before it is missing. */
export type PictureOrder = {
  readonly number: number;
  readonly modulus: number;
  /** Later pictures are made from this one. */
  readonly reference: boolean;
};
