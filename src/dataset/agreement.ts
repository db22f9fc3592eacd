import { InputError } from '../errors.ts';
import { DatasetSummary } from './dataset-summary.ts';
import { joinsVideos } from './layout.ts';
import { type DatasetInfo, type FeatureInfo, featureInfos, type VideoInfo } from './info.ts';
import type { EpisodeManifest } from './types.ts';

/** A recording that does not fit to the others of its dataset. */
export type Misfit = { readonly key: string; readonly reason: string };

/** What all recordings of a dataset must agree on. */
type Contract = readonly (readonly [what: string, value: unknown])[];

type Group = {
  readonly contract: Contract;
  readonly url: string;
  readonly summary: DatasetSummary;
  readonly members: { readonly key: string; readonly url: string }[];
  /** Members whose newest conversion succeeded. */
  current: number;
};

/** The contract, in the order in which a disagreement is told. */
function contractOf(manifest: EpisodeManifest): Contract {
  const features = manifest.features.map(
    ({ key, dtype, shape, names }) => [key, { dtype, shape, names }] as const,
  );
  return [
    ['format', manifest.format ?? 'v3.0'],
    ['fps', manifest.fps],
    ['robot_type', manifest.robotType],
    ['videos.pack', joinsVideos(manifest)],
    ['the list of features', features.map(([key]) => key)],
    ...features,
    ...Object.entries(manifest.videoInfo).map(
      ([key, info]) => [`the video of ${key}`, streamOf(info)] as const,
    ),
  ];
}

/** How a video was encoded, which copied ones do not tell. */
const ENCODING: ReadonlySet<string> = new Set(
  ['g', 'crf', 'preset', 'fast_decode', 'video_backend', 'extra_options'].map((name) => `video.${name}`),
);

function streamOf(info: VideoInfo): VideoInfo {
  return Object.fromEntries(Object.entries(info).filter(([name]) => !ENCODING.has(name)));
}

/**
 * Sorts the recordings of a dataset by what they must agree on. One that differs, a robot with another joint, must not
 * keep the others from being published, nor take the place of what is published already.
 */
export class Agreement {
  readonly #outdated: ReadonlySet<string>;
  readonly #groups = new Map<string, Group>();

  /** `outdated`: keys whose newest conversion failed; an older one of theirs says nothing about what is wanted. */
  constructor(outdated: ReadonlySet<string> = new Set()) {
    this.#outdated = outdated;
  }

  add(manifest: EpisodeManifest): void {
    const contract = contractOf(manifest);
    const id = JSON.stringify(contract);
    const { url } = manifest.source;
    const group = this.#groups.get(id) ?? {
      contract,
      url,
      summary: new DatasetSummary(),
      members: [],
      current: 0,
    };
    this.#groups.set(id, group);
    group.summary.add(manifest);
    group.members.push({ key: manifest.key, url });
    if (!this.#outdated.has(manifest.key)) group.current += 1;
  }

  /**
   * The summary of those that make the dataset, and the misfits with the reason: those that are as the `published`
   * dataset is, else the most, else the first. Throws `InputError` when there is no recording at all.
   */
  choose(published: Partial<DatasetInfo> | undefined): { summary: DatasetSummary; misfits: Misfit[] } {
    const groups = [...this.#groups.values()];
    const rank = (group: Group) => [
      group.current > 0 && published !== undefined && isAs(published, group) ? 1 : 0,
      group.current,
      group.members.length,
    ];
    const [chosen, ...others] = groups.toSorted((a, b) => {
      const [own, other] = [rank(a), rank(b)];
      return own.reduce((found, value, at) => found || (other[at] ?? 0) - value, 0);
    });
    if (!chosen) throw new InputError('a dataset needs at least one converted recording, found none');
    const misfits = others.flatMap((group) =>
      group.members.map(({ key, url }) => ({ key, reason: difference(chosen, group, url) })),
    );
    return { summary: chosen.summary, misfits };
  }
}

function difference(chosen: Group, { contract }: Group, url: string): string {
  const found = new Map(contract);
  const [what, value] = chosen.contract.find(
    ([name, own]) => JSON.stringify(own) !== JSON.stringify(found.get(name)),
  ) ?? ['its features', undefined];
  return (
    `recordings of one dataset must agree on ${what}: ${chosen.url} has ${JSON.stringify(value)}, ` +
    `${url} has ${JSON.stringify(found.get(what)) ?? 'nothing'}`
  );
}

/** Whether a published `info.json` declares what the group has. */
function isAs(
  { codebase_version: version, fps, features = {} }: Partial<DatasetInfo>,
  { summary }: Group,
): boolean {
  const textOf = (infos: Readonly<Record<string, FeatureInfo>>) =>
    JSON.stringify(
      Object.entries(infos).map(([key, { dtype, shape, names, info }]) => [
        key,
        dtype,
        shape,
        names,
        streamOf(info ?? {}),
      ]),
    );
  return (
    version === summary.format &&
    fps === summary.fps &&
    textOf(features) === textOf(featureInfos(summary.features, summary.videoInfos))
  );
}
