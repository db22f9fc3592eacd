/** What a store knows of one object. `key` is relative to the storage's root, `/`-separated. */
export type ObjectInfo = {
  readonly key: string;
  readonly size: number;
  /** Changes whenever the content does (S3: ETag; files: size and modification time in ns). */
  readonly etag: string;
};

/** An opened object, pinned to one version; fits `ByteSource` by shape. */
export interface StoredObject {
  readonly info: ObjectInfo;
  /** Local file behind it, when there is one. Taking it counts as reading all of it: ask only to use it. */
  readonly path?: string;
  size(): Promise<bigint>;
  /**
   * Exactly `length` bytes from `offset`, in `into` (of that length) where the store can. Throws `StorageError` when the
   * object changed since it was opened (retryable: a new attempt may open the new version).
   */
  read(offset: bigint, length: bigint, into?: Uint8Array): Promise<Uint8Array>;
  /** Tells that this very range will be read soon; stores that are far away fetch it already. */
  willRead?(offset: bigint, length: bigint): void;
  close(): Promise<void>;
}

/** Bytes in memory, or a file of this machine that is streamed. */
export type PutBody = { readonly bytes: Uint8Array } | { readonly path: string };

/** Runs one step of an operation, again as long as its policy allows. Throws the last failure. */
export type Retry = <T>(step: () => Promise<T>) => Promise<T>;

export type PutOptions = {
  readonly signal?: AbortSignal;
  /** How failing steps (a request, a copy) are repeated; default: the store's own policy. */
  readonly retry?: Retry;
  /** Refuses to replace an existing object (`StorageError`, not retryable). */
  readonly ifAbsent?: boolean;
  /** Replaces only this version. */
  readonly ifMatch?: string;
  /** Bytes acknowledged so far. */
  readonly onProgress?: (bytes: number) => void;
};

/** A stored object and the sha256 (hex) of the bytes that were sent. */
export type PutResult = ObjectInfo & { readonly sha256: string };

/** How an S3 store is reached. Without credentials the AWS SDK's own provider chain finds them. */
export type S3Settings = {
  /** Any S3-compatible endpoint; default: AWS by region. */
  readonly endpoint?: string;
  readonly region?: string;
  /** `endpoint/bucket/key` instead of `bucket.endpoint/key`. */
  readonly forcePathStyle?: boolean;
  readonly credentials?: {
    readonly accessKeyId: string;
    readonly secretAccessKey: string;
    readonly sessionToken?: string;
  };
  /** Size of the parts of a multipart upload, bytes, at least 5 MiB (default 8 MiB); grows with files over 80 GB. */
  readonly partSize?: number;
  /** A connection is given up when nothing moves for so long, ms; default 30 s. */
  readonly idleTimeoutMs?: number;
  /** Tries of a request that reads or looks up, the first included; default 5. */
  readonly maxAttempts?: number;
  /** Upper bound of the first wait before a further try of such a request, ms; default 250. */
  readonly retryBaseMs?: number;
};

/**
 * Where bytes live: a folder or a bucket prefix. Keys never leave the root (`InputError`).
 * An object is visible complete or not at all.
 */
export interface Storage {
  readonly kind: 'file' | 's3';
  /** The root as a URL without trailing slash, free of credentials. */
  readonly url: string;
  head(key: string, options?: { signal?: AbortSignal }): Promise<ObjectInfo | undefined>;
  /** Throws `StorageError` (not retryable) when absent. */
  open(key: string, options?: { signal?: AbortSignal }): Promise<StoredObject>;
  put(key: string, body: PutBody, options?: PutOptions): Promise<PutResult>;
  /**
   * Every object whose key starts with `prefix`, streamed; folders and AWS in byte order of the keys, other stores in
   * an order of their own. `depth` leaves out what lies deeper than so
   * many path segments below the prefix's last slash (1: no folders).
   */
  list(prefix: string, options?: { signal?: AbortSignal; depth?: number }): AsyncIterable<ObjectInfo>;
  /** Removes an object; absent is fine. */
  remove(key: string, options?: { signal?: AbortSignal }): Promise<void>;
  /** sha256 (hex) of an object: recorded by `put` (S3) or read back (files); undefined when absent or unknown. */
  sha256(key: string, options?: { signal?: AbortSignal }): Promise<string | undefined>;
  /**
   * Removes what dead attempts left under `prefix`: temporary files, unfinished multipart uploads. What may still
   * belong to a living attempt (younger than `olderThanMs`, owner not known to be dead) stays. Returns how many.
   */
  sweep(prefix: string, options: { olderThanMs: number; signal?: AbortSignal }): Promise<number>;
}

/** Where a recording lies and which version of it; the same for the same content, whoever asks. */
export type SourceVersion = { readonly url: string; readonly size: number; readonly etag: string };

/** The kinds of file a dataset is made of: the closed set of the `type` and `file_type` labels. */
export type FileType = 'parquet' | 'video' | 'meta';

/** One file handed to the upload coordinator. */
export type UploadFile = { readonly key: string; readonly type: FileType; readonly body: PutBody };

/** An acknowledged file. */
export type UploadedFile = {
  readonly key: string;
  readonly type: FileType;
  readonly bytes: number;
  readonly sha256: string;
  readonly etag: string;
};

/** What an upload took: acknowledged files and bytes, repeated steps, seconds from the first file to the last. */
export type UploadStats = {
  readonly files: number;
  readonly bytes: number;
  readonly retries: number;
  readonly seconds: number;
  /** Of `files`, those an earlier attempt had stored already; their bytes are not in `bytes`. */
  readonly reused?: number;
};

/** Where an upload is; sizes in bytes. */
export type UploadProgress = {
  /** The file that moved, its acknowledged bytes and its size. */
  readonly key: string;
  readonly bytes: number;
  readonly size: number;
  /** Over all files handed in so far. */
  readonly filesDone: number;
  readonly files: number;
};
