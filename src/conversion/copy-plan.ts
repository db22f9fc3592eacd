import { encoderName } from '../dataset/encoder-options.ts';
import { findFfmpeg } from '../dataset/ffmpeg.ts';
import { FrameAligner } from '../frame/aligner.ts';
import type { AlignedFrame, Feature } from '../frame/types.ts';
import type { Recording } from '../recording/types.ts';
import type { CopiedCamera } from '../dataset/copy-track.ts';
import { CopyCheck } from './copy-check.ts';
import type { ConversionPlan } from './plan.ts';
import { pixelFormatOf } from './coded-format.ts';
import { alignedRows, type RowOptions } from './rows.ts';
import type { Timeline } from './scan.ts';

/** Which coded cameras are taken over without re-encoding, and why the others are not. */
export type CopyPlan = {
  readonly copied: ReadonlyMap<string, CopiedCamera>;
  /** By feature, for the manifest; empty when nothing could have been copied. */
  readonly decisions: Readonly<Record<string, { readonly copied: boolean; readonly reason?: string }>>;
};

/** FFmpeg encoders by the word a recording has for their codec. */
const CODECS = { h264: /264/, h265: /265|hevc/ } as const;

/**
 * Goes through the rows of a recording without decoding a picture. A coded camera can be copied when every row shows
 * the picture that follows the one before it, and none has to be decoded for anything else. `apart`: every episode is to
 * have a video of its own.
 */
export async function planCopies(
  recording: Recording,
  plan: ConversionPlan,
  timeline: Timeline,
  options: RowOptions & { readonly apart: boolean },
): Promise<CopyPlan> {
  const { config } = options;
  const { coded } = plan;
  if (config.video.copy === 'never' || coded.size === 0) return { copied: new Map(), decisions: {} };
  const reasons = new Map<string, string>();
  const checks = new Map<string, CopyCheck>();
  for (const [key, { format }] of coded) {
    const feature = plan.mapping.features.find((each) => each.key === key);
    const reason = feature && refusal(feature, format, config.video);
    if (reason !== undefined) reasons.set(key, reason);
    else checks.set(key, new CopyCheck(config.fps, options.apart));
  }
  if (checks.size > 0) {
    const aligner = new FrameAligner(plan.mapping, timeline.extent, config, timeline.spans);
    const rows = alignedRows(recording, plan, aligner, {
      ...options,
      copiedTopics: new Set([...coded.values()].map(({ topic }) => topic)),
    });
    const formats = await check(rows, checks, options.signal);
    for (const [key, each] of checks) {
      const fault = each.fault ?? formatFault(formats.get(key), config.video.pix_fmt);
      if (fault !== undefined) reasons.set(key, fault);
    }
  }
  const copied = new Map<string, CopiedCamera>();
  for (const [key, each] of checks) {
    const format = coded.get(key)?.format;
    if (format && !reasons.has(key)) copied.set(key, { format, keyFrames: each.keyFrames });
  }
  // A topic is decoded as a whole or not at all.
  const refusedTopics = new Set([...reasons.keys()].map((key) => coded.get(key)?.topic));
  for (const key of copied.keys()) {
    if (!refusedTopics.has(coded.get(key)?.topic)) continue;
    copied.delete(key);
    reasons.set(key, 'its topic is decoded for another feature');
  }
  const decisions = [...coded.keys()].map((key) => {
    const reason = reasons.get(key);
    return [key, reason === undefined ? { copied: true } : { copied: false, reason }] as const;
  });
  return { copied, decisions: Object.fromEntries(decisions) };
}

/** Why a camera cannot be copied whatever its pictures are. */
function refusal(
  { camera }: Feature,
  format: 'h264' | 'h265',
  video: RowOptions['config']['video'],
): string | undefined {
  const changes = Object.keys(camera?.transform ?? {});
  if (changes.length > 0) return `its pictures are changed (${changes.join(', ')})`;
  if (!CODECS[format].test(encoderName(video.codec))) {
    return `the recording has ${format}, video.codec asks for ${video.codec}`;
  }
  return undefined;
}

/** Shows every row to the checks; gives the pixel formats of their pictures, looked up while the rows pass. */
async function check(
  rows: AsyncIterable<AlignedFrame>,
  checks: ReadonlyMap<string, CopyCheck>,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, string>> {
  const formats = new Map<string, Promise<string>>();
  try {
    for await (const row of rows) {
      for (const [key, each] of checks) {
        each.add(row.values.get(key), row.episode);
        if (each.first && !formats.has(key)) {
          const { first } = each;
          const format = findFfmpeg().then((ffmpeg) => pixelFormatOf(first, ffmpeg, signal));
          format.catch(() => {}); // thrown below
          formats.set(key, format);
        }
      }
      if ([...checks.values()].every(({ fault }) => fault !== undefined)) break;
    }
  } finally {
    await Promise.allSettled(formats.values());
  }
  return new Map(await Promise.all([...formats].map(async ([key, format]) => [key, await format] as const)));
}

function formatFault(found: string | undefined, wanted: string): string | undefined {
  if (found === undefined) return 'no row shows it';
  return found === wanted ? undefined : `its pictures are ${found}, video.pix_fmt asks for ${wanted}`;
}
