/** How a file is opened. */
export type OpenOptions = {
  /** Reads what is whole of a damaged file and reports the rest in `losses` (default); false refuses it. */
  readonly recover?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Folder for what has to be spooled (compressed files, databases); default the system's temporary folder. */
  readonly scratch?: string | undefined;
};
