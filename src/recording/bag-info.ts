import { parse } from 'yaml';
import { z } from 'zod';
import { InputError, toError } from '../errors.ts';
import { printable } from './compression.ts';

/** What the `metadata.yaml` of a rosbag2 folder says, in every version since 1. */
export type BagInfo = {
  readonly storage: string;
  /** Names of the files as written; old versions put the folder's name in front. */
  readonly files: readonly string[];
  /** `file`, `message` or '' (none). */
  readonly compressionMode: string;
  readonly compressionFormat: string;
  readonly distro: string;
  readonly counts: ReadonlyMap<string, number>;
  readonly customData: ReadonlyMap<string, string>;
};

const text = z.string().nullish();

const schema = z.object({
  storage_identifier: z.string().optional(),
  relative_file_paths: z.array(z.string()).nullish(),
  compression_mode: text,
  compression_format: text,
  ros_distro: text,
  topics_with_message_count: z
    .array(z.object({ topic_metadata: z.object({ name: z.string() }), message_count: z.number().int() }))
    .nullish(),
  custom_data: z.record(z.string(), z.coerce.string()).nullish(),
});

const outer = z.object({ rosbag2_bagfile_information: schema });

/**
 * Parses a `metadata.yaml`, or the same text as databases and MCAP files carry it, without its outer name. Throws
 * `InputError` when it is none.
 */
export function parseBagInfo(yaml: string): BagInfo {
  let document: unknown;
  try {
    document = parse(yaml, { maxAliasCount: 10 });
  } catch (thrown) {
    throw new InputError(`metadata.yaml does not parse (${printable(toError(thrown).message)})`, {
      cause: thrown,
    });
  }
  const result = z.union([outer, schema.required({ storage_identifier: true })]).safeParse(document);
  if (!result.success) {
    throw new InputError(
      `expected rosbag2 information in metadata.yaml, found ${printable(JSON.stringify(document) ?? 'nothing')}`,
      { cause: result.error },
    );
  }
  const info =
    'rosbag2_bagfile_information' in result.data ? result.data.rosbag2_bagfile_information : result.data;
  const topics = info.topics_with_message_count ?? [];
  return {
    storage: info.storage_identifier ?? '',
    files: info.relative_file_paths ?? [],
    compressionMode: (info.compression_mode ?? '').toLowerCase(),
    compressionFormat: (info.compression_format ?? '').toLowerCase(),
    distro: info.ros_distro ?? '',
    counts: new Map(topics.map(({ topic_metadata: { name }, message_count: count }) => [name, count])),
    customData: new Map(Object.entries(info.custom_data ?? {})),
  };
}

/** The same of a text that may be missing or damaged where it is a bonus: undefined then. */
export function bagInfoIn(yaml: string | undefined): BagInfo | undefined {
  if (yaml === undefined || yaml === '') return undefined;
  try {
    return parseBagInfo(yaml);
  } catch (thrown) {
    if (!(thrown instanceof InputError)) throw thrown;
    return undefined;
  }
}
