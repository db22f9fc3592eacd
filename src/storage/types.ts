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
  /** Local file behind it, when there is one. */
  readonly path?: string;
  size(): Promise<bigint>;
  /** Exactly `length` bytes from `offset`. Throws `StorageError` when the object changed since it was opened. */
  read(offset: bigint, length: bigint): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Bytes in memory, or a file of this machine that is streamed. */
export type PutBody = { readonly bytes: Uint8Array } | { readonly path: string };

export type PutOptions = {
  readonly signal?: AbortSignal;
  /** Refuses to replace an existing object (`StorageError`, not retryable). */
  readonly ifAbsent?: boolean;
  /** Replaces only this version. */
  readonly ifMatch?: string;
  /** Bytes acknowledged so far. */
  readonly onProgress?: (bytes: number) => void;
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
  put(key: string, body: PutBody, options?: PutOptions): Promise<ObjectInfo>;
  /** Every object whose key starts with `prefix`, in key order, streamed. */
  list(prefix: string, options?: { signal?: AbortSignal }): AsyncIterable<ObjectInfo>;
  /** Removes an object; absent is fine. */
  remove(key: string, options?: { signal?: AbortSignal }): Promise<void>;
}

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

/** What an upload took. */
export type UploadStats = {
  readonly files: number;
  readonly bytes: number;
  readonly retries: number;
  readonly seconds: number;
};
