import { basename } from 'node:path';
import { DEPTH } from '../dataset/depth.ts';
import { findFfmpeg } from '../dataset/ffmpeg.ts';
import { conversionVideoPath, stagedPath } from '../dataset/layout.ts';
import type { EpisodeManifest, Written, WrittenFile } from '../dataset/types.ts';
import { fitsOneVideo, type VideoLengths } from '../dataset/video-length.ts';
import { verifyWritten } from '../dataset/verify-written.ts';
import { DatasetWriter } from '../dataset/writer.ts';
import { EncodeError, InputError, throwIfAborted } from '../errors.ts';
import { FrameAligner } from '../frame/aligner.ts';
import type { AlignedFrame, AlignmentReport, EpisodeSpan } from '../frame/types.ts';
import { withReleasers } from '../releasers.ts';
import { findIntrinsics, type IntrinsicsFound } from './camera-info.ts';
import type { FileType } from '../storage/types.ts';
import { type Checkpoint, saveCheckpoint } from './checkpoint.ts';
import { type DatasetConfig, hasVideo } from './config.ts';
import { type CopyPlan, planCopies } from './copy-plan.ts';
import { conversionHash, type MarksFile } from './marks.ts';
import { type ConversionPlan, planConversion } from './plan.ts';
import type { StageProgress } from './progress.ts';
import { alignedRows } from './rows.ts';
import { scanTimeline, type Timeline } from './scan.ts';
import { onScratch } from './scratch-space.ts';
import type { OpenedSource } from './source.ts';
import type { ConversionContext, ConversionRequest } from './types.ts';
import { version } from './version.ts';

/** A file of the attempt's folder that will not change any more, and its key in the dataset. */
export type ClosedFile = {
  readonly key: string;
  readonly type: FileType;
  readonly localPath: string;
};

/** A recording to convert, and how many conversions of it have a manifest or had one. */
export type EditionRequest = ConversionRequest & { readonly edition: number };

/**
 * Plan, convert and verify into the attempt's folder; ends with a checkpoint. `onFile` is told of every file that will
 * not change any more, with its place in the dataset, before it is known whether all of them hold together.
 */
export async function produceEpisode(
  request: EditionRequest,
  context: ConversionContext,
  source: OpenedSource,
  marks: MarksFile | undefined,
  folder: string,
  progress: StageProgress,
  onFile?: (file: ClosedFile) => void,
): Promise<Checkpoint> {
  const { config } = request;
  const { signal, metrics } = context;
  const { recording } = source;
  const name = source.name;
  // Asked while the recording is planned; who needs the answer gets the failure.
  if (hasVideo(config)) findFfmpeg().catch(() => {});
  const plan = await planConversion(recording, { ...request, name, marks }, signal);
  const calibration = await findIntrinsics(recording, plan.mapping.sources, signal);
  const { extent, spans } = await scanTimeline(recording, plan, config, name, signal);
  const rowOptions = { config, name, bufferMaxBytes: context.bufferMaxBytes, signal };
  const apart = config.format === 'v2.1' || !fitsOneVideo(lengths({ extent, spans }, config));
  const copies = await planCopies(
    recording,
    plan,
    { extent, spans },
    { ...rowOptions, apart, onBuffered: () => {} },
  );
  progress.expect(extent.expectedRows);
  progress.enter('convert');

  return withReleasers(async (release) => {
    const held = new HeldBytes(metrics.resources.bufferUsage);
    release(() => held.clear());
    const writer = await DatasetWriter.create({
      dir: folder,
      fps: config.fps,
      features: plan.mapping.features,
      video: { ...config.video, pixFmt: config.video.pix_fmt },
      expectedFrames: extent.expectedRows,
      format: config.format,
      split: spans.length > 1,
      apart,
      copied: copies.copied,
      signal,
      metrics: metrics.video,
      onBuffered: (bytes) => held.set('writer', bytes),
      onFile: (file) =>
        onFile?.({ key: publishedPath(file, request), type: file.type, localPath: file.localPath }),
    });
    release(() => writer.abort());
    const aligner = new FrameAligner(plan.mapping, extent, config, spans);
    const rows = alignedRows(recording, plan, aligner, {
      ...rowOptions,
      copiedTopics: new Set([...copies.copied.keys()].map((key) => plan.coded.get(key)?.topic ?? '')),
      onBuffered: (bytes) => held.set('aligner', bytes),
    });
    return onScratch(folder, async () => {
      const frames = await writeRows(rows, writer, spans, progress);
      if (frames === 0) throw new InputError(noRows(name, extent.expectedRows, aligner));
      const written = await writer.finish();
      throwIfAborted(signal);
      refuseStills(name, written, frames, config);
      progress.enter('verify');
      const faults = (await verifyWritten(written, plan.mapping.features, config.fps)).filter(
        ({ ok }) => !ok,
      );
      if (faults.length > 0)
        throw new EncodeError(`${name}: ${faults.map(({ message }) => message).join('; ')}`);
      const manifest = manifestOf(
        request,
        source,
        marks,
        { plan, copies },
        calibration,
        written,
        aligner.report(),
      );
      const files = Object.fromEntries(
        written.files.map((file) => [publishedPath(file, request), basename(file.localPath)]),
      );
      await saveCheckpoint(folder, { manifest, files });
      return { manifest, files };
    });
  });
}

/** How long the episodes of a recording are going to be, in time of the dataset. */
function lengths({ extent, spans }: Timeline, { fps, timeline }: DatasetConfig): VideoLengths {
  const { t0, tEnd, expectedRows } = extent;
  const seconds = expectedRows / fps;
  // Rows of a reference topic come at a rate of its own.
  const pace = timeline === 'grid' ? 1 : seconds / (Number(tEnd - t0) / 1e9);
  const longest = spans.reduce((most, { start, end }) => Math.max(most, Number(end - start) / 1e9), 0);
  return { episodes: spans.length, seconds, longestSeconds: longest * pace + 1 / fps };
}

/** Writes the rows, an episode for every span that has some; returns their number. */
async function writeRows(
  rows: AsyncIterable<AlignedFrame>,
  writer: DatasetWriter,
  spans: readonly EpisodeSpan[],
  progress: StageProgress,
): Promise<number> {
  let frames = 0;
  let current: { episode: number; startTime: bigint; endTime: bigint } | undefined;
  for await (const row of rows) {
    const { episode, time } = row;
    if (current && current.episode !== episode) {
      await writer.saveEpisode(current);
      current = undefined;
    }
    current = { episode, startTime: current?.startTime ?? time, endTime: time };
    await writer.addFrame(row, spans[episode]?.task ?? '');
    progress.frames(++frames);
  }
  if (current) await writer.saveEpisode(current);
  return frames;
}

function manifestOf(
  request: EditionRequest,
  source: OpenedSource,
  marks: MarksFile | undefined,
  { plan, copies }: { readonly plan: ConversionPlan; readonly copies: CopyPlan },
  calibration: IntrinsicsFound,
  written: Written,
  alignment: AlignmentReport,
): EpisodeManifest {
  const { config, key, slot, edition } = request;
  return {
    version: 1,
    format: config.format,
    key,
    slot,
    ...(edition > 0 && { edition }),
    source: { ...source.info },
    configHash: conversionHash(request, marks),
    converter: { version, encoder: written.encoder },
    fps: config.fps,
    robotType: config.robot_type ?? null,
    features: plan.mapping.features,
    videoInfo: written.videoInfo,
    ...(Object.keys(copies.decisions).length > 0 && { copies: copies.decisions }),
    ...(Object.keys(calibration.intrinsics).length > 0 && { intrinsics: calibration.intrinsics }),
    episodes: written.parts,
    files: written.files.map((file) => {
      const { type, bytes, sha256, frames, feature, episode } = file;
      const path = publishedPath(file, request);
      const place = {
        ...(feature === undefined ? {} : { feature }),
        ...(episode === undefined ? {} : { episode }),
      };
      return { path, type, bytes, sha256, frames, ...place };
    }),
    alignment,
    losses: [
      ...source.recording.losses,
      ...calibration.losses,
      ...Object.entries(written.repeated).map(([camera, count]) => ({
        what: `pictures of ${camera} that did not decode, shown as the picture before them`,
        count,
      })),
      ...Object.entries(written.beyond).map(([camera, count]) => ({
        what: `depths of ${camera} beyond ${DEPTH.max} m, the farthest that its video can hold`,
        count,
      })),
      ...Object.entries(written.rounded).map(([feature, count]) => ({
        what: `integers of ${feature} beyond 2^24, rounded to what its 32-bit floats can hold`,
        count,
      })),
    ],
  };
}

/** Where a file of the episode lies once it is published. */
function publishedPath(
  { type, feature = '', episode }: WrittenFile,
  { key, slot, edition, config }: EditionRequest,
): string {
  return type === 'video'
    ? conversionVideoPath(
        { format: config.format, pack: config.videos.pack },
        { feature, episode },
        { key, slot, edition },
      )
    : stagedPath(key, edition);
}

/** Of a camera's pictures more than these, or than `tolerate.undecodable`, may not be shown as others. */
const STILL_SHARE = 0.5;

/** A camera most of whose pictures do not decode would be a still with a few changes. */
function refuseStills(
  name: string,
  { repeated }: Written,
  frames: number,
  { tolerate: { undecodable } }: DatasetConfig,
): void {
  for (const [camera, count] of Object.entries(repeated)) {
    if (count <= Math.max(undecodable, STILL_SHARE) * frames) continue;
    throw new InputError(
      `${name}: ${count} of the ${frames} pictures of ${camera} do not decode; 'tolerate.undecodable' (${undecodable}) accepts a share above ${STILL_SHARE}`,
    );
  }
}

function noRows(name: string, expected: number, aligner: FrameAligner): string {
  const { sources } = aligner.report();
  const worst = sources.toSorted((a, b) => b.dropped - a.dropped)[0];
  return (
    `${name}: no row is left of ${expected}: ` +
    `${worst ? `${worst.feature} (${worst.topic}) has no sample within max_age for ${worst.dropped} of them` : 'nothing to align'}`
  );
}

/** Keeps a gauge equal to the sum of what several holders report. */
class HeldBytes {
  readonly #gauge: { inc(value: number): void };
  readonly #parts = new Map<string, number>();

  constructor(gauge: { inc(value: number): void }) {
    this.#gauge = gauge;
  }

  set(part: string, bytes: number): void {
    const before = this.#parts.get(part) ?? 0;
    if (bytes !== before) this.#gauge.inc(bytes - before);
    this.#parts.set(part, bytes);
  }

  clear(): void {
    for (const part of this.#parts.keys()) this.set(part, 0);
  }
}
