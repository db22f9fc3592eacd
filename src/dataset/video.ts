import type { ChildProcess } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import { asCanceled, EncodeError, InputError, throwIfAborted, toError } from '../errors.ts';
import type { Feature } from '../frame/types.ts';
import type { VideoMetrics } from '../metrics/video.ts';
import { checkVideo } from './check-video.ts';
import { checkVideoSize } from './encoder-options.ts';
import { FfmpegLog, findFfmpeg, startFfmpeg } from './ffmpeg.ts';
import { matroskaFrame, matroskaHeader } from './matroska.ts';
import type { Mp4Video } from './mp4.ts';
import { type EncoderPicture, pictureTrack } from './picture-input.ts';
import { inLayout, pictureLayout, withoutExif } from './picture-layout.ts';
import { SampleStream } from './picture-histogram.ts';
import { PictureSamples } from './picture-samples.ts';
import { isCandidate } from './picture-sampling.ts';
import type { VideoSettings } from './types.ts';
import { encoderCommand, sampleLayout } from './video-command.ts';

/** Bytes of pictures that may wait for one encoder before `add` stops resolving at once. */
const QUEUE_BYTES = 4 << 20;

/** What one encoder is given. */
export type EncoderOptions = {
  readonly feature: Feature;
  /** File to write. */
  readonly path: string;
  readonly fps: number;
  readonly settings: VideoSettings;
  /** Expected number of frames of the one episode; undefined when the video will hold several. */
  readonly expectedFrames: number | undefined;
  /** False when nobody needs sampled pictures back, and pictures come as they are to be stored; default true. */
  readonly sampled?: boolean;
  readonly signal: AbortSignal;
  readonly metrics: VideoMetrics;
  readonly ffmpeg?: string | undefined;
  /** Told by how many bytes the encoder's queue grew or shrank. */
  readonly onQueued: (bytes: number) => void;
};

/** A finished video. */
export type EncodedVideo = {
  readonly video: Mp4Video;
  readonly samples: PictureSamples;
  /** Pictures that did not decode and show the picture before them. */
  readonly repeated: number;
};

type Running = {
  readonly child: ChildProcess;
  readonly input: Writable;
  readonly log: FfmpegLog;
  /** Settles when the program has ended; never rejects. */
  readonly ended: Promise<Error | undefined>;
  readonly startedAt: bigint;
  readonly first: EncoderPicture;
};

/**
 * One camera's video: an FFmpeg process that takes undecoded pictures on standard input, writes the MP4 file, and hands
 * back the pictures that statistics need, decoded. The state goes open → finished, or aborted from either.
 */
export class VideoEncoder {
  readonly #options: EncoderOptions;
  readonly #samples: PictureSamples;
  readonly #episodes = [0];
  #state: 'open' | 'finished' | 'aborted' = 'open';
  #running: Running | undefined;
  #failure: Error | undefined;
  #layout: string | undefined;
  #frames = 0;
  #queued = 0;
  #wake: (() => void) | undefined;
  /** The newest picture waits here: when it turns out to be the last one, another one may have to stand in for it. */
  #held: EncoderPicture | undefined;
  #before: EncoderPicture | undefined;
  #substituted = 0;

  constructor(options: EncoderOptions) {
    checkVideoSize(options.feature, options.settings);
    this.#options = options;
    this.#samples = new PictureSamples(options.feature.key, `${options.path}.samples`);
  }

  /** The next frames belong to a new episode. */
  startEpisode(): void {
    this.#episodes.push(this.#frames);
  }

  /** Takes the next picture; resolves when there is room for another one. */
  async add(picture: EncoderPicture): Promise<void> {
    if (this.#state !== 'open')
      throw new Error(`the encoder of ${this.#options.feature.key} is ${this.#state}`);
    this.#checkPicture(picture);
    const alike = await this.#alike(withoutExif(picture));
    this.#running ??= await this.#start(picture);
    this.#frames += 1;
    const ready = this.#held;
    this.#held = alike;
    if (ready) {
      this.#before = ready;
      this.#write(ready, this.#frames - 2);
    }
    while (this.#queued > QUEUE_BYTES && this.#failure === undefined) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    if (this.#failure) throw this.#failure;
  }

  /**
   * Ends the video and reads it back; a file that does not hold exactly the frames added is an `EncodeError`, or an
   * `InputError` where they end with pictures that do not decode.
   */
  async finish(): Promise<EncodedVideo> {
    const { feature, path, fps, metrics } = this.#options;
    if (this.#state !== 'open') throw new Error(`the encoder of ${feature.key} is ${this.#state}`);
    const running = this.#running;
    if (!running || !this.#held) throw new InputError(`${feature.key}: a video needs at least one picture`);
    const standsIn = this.#writeStandIn();
    this.#write(this.#held, this.#frames - 1);
    running.input.end();
    const error = await running.ended;
    if (error) throw error;
    const seconds = Number(process.hrtime.bigint() - running.startedAt) / 1e9;
    const video = await checkVideo(path, { feature, fps, frames: this.#frames }).catch((thrown: unknown) => {
      throw this.#undecodableEnd(running, toError(thrown));
    });
    metrics.encodingDuration.observe(seconds);
    this.#state = 'finished';
    const { duplicated, dropped } = running.log;
    // Of the three pictures for the last frame all that decode but one are dropped: two, one without the last, else none.
    const last = standsIn ? dropped % 2 : 0;
    return { video, samples: this.#samples, repeated: duplicated + this.#substituted + last };
  }

  /** Kills the program; resolves when it is gone. Safe in every state. */
  async abort(): Promise<void> {
    if (this.#state === 'open') this.#state = 'aborted';
    const running = this.#running;
    if (!running) return;
    running.child.kill('SIGKILL');
    await running.ended;
  }

  /**
   * Writes the picture before the last one again, twice, a little before the last one's time: all belong to the last
   * frame, which shows the latest that decodes. A gap is filled when a frame follows, and none follows the last. Returns
   * whether there was one to write; pixels need none.
   */
  #writeStandIn(): boolean {
    const running = this.#running;
    if (!running || !this.#before || !this.#onGrid(running)) return false;
    for (const earlier of [0.4, 0.2]) this.#write(this.#before, this.#frames - 1 - earlier);
    return true;
  }

  /** Whether the pictures are decoded, and put on a grid of frames, by the encoder's process. */
  #onGrid({ first }: Running): boolean {
    return this.#options.sampled !== false && pictureTrack(first, this.#options.fps) !== undefined;
  }

  /** What is wrong with a video that ends too early because its last pictures do not decode; else the error itself. */
  #undecodableEnd(running: Running, error: Error): Error {
    const { log } = running;
    const missing = this.#frames - log.shown;
    if (missing <= 0 || !this.#onGrid(running)) return error;
    const which =
      log.shown === 0
        ? `none of the ${this.#frames} pictures decodes`
        : `the last ${missing} of ${this.#frames} pictures do not decode`;
    return new InputError(`${this.#options.feature.key}: ${which}`, { cause: error });
  }

  #checkPicture(picture: EncoderPicture): void {
    const { feature } = this.#options;
    const { width, height } = (this.#options.sampled === false ? undefined : feature.camera) ?? picture;
    const expected = this.#running?.first ?? { ...picture, width, height };
    const name = (p: EncoderPicture) =>
      `${p.format === 'raw' ? `raw ${p.pixelFormat}` : p.format} ${p.width}x${p.height}`;
    if (name(expected) !== name(picture)) {
      throw new InputError(
        `${feature.key}: expected pictures of ${name(expected)}, found ${name(picture)} at frame ${this.#frames}`,
      );
    }
  }

  /** The picture in the layout of the first one; the picture before it where it does not decode. */
  async #alike(picture: EncoderPicture): Promise<EncoderPicture> {
    const layout = pictureLayout(picture);
    this.#layout ??= layout;
    if (layout === undefined || this.#layout === undefined || layout === this.#layout) return picture;
    const what = `${this.#options.feature.key}: frame ${this.#frames}`;
    const alike = await inLayout(picture, this.#layout, what);
    if (alike) return alike;
    this.#substituted += 1;
    return this.#held ?? picture;
  }

  async #start(first: EncoderPicture): Promise<Running> {
    const { feature, signal, expectedFrames, metrics } = this.#options;
    throwIfAborted(signal);
    metrics.expectCamera(feature.key);
    const ffmpeg = await findFfmpeg(this.#options.ffmpeg);
    const startedAt = process.hrtime.bigint();
    const args = encoderCommand({ ...this.#options, ffmpeg, first });
    const child = startFfmpeg(ffmpeg, args, {
      stdio: ['pipe', 'ignore', 'pipe', this.#options.sampled === false ? 'ignore' : 'pipe'],
      signal,
    });
    const input = child.stdio[0] as Writable;
    const errors = child.stdio[2] as Readable;
    const sampled = child.stdio[3] as Readable | null;
    const log = new FfmpegLog();
    errors.setEncoding('utf8').on('data', (chunk: string) => log.push(chunk));
    const pictures = new SampleStream(sampleLayout(feature, first));
    let next = 0;
    let broken: Error | undefined;
    sampled?.on('data', (chunk: Buffer) => {
      try {
        for (const { data, layout } of pictures.push(chunk)) {
          while (expectedFrames !== undefined && !isCandidate(next, expectedFrames)) next += 1;
          if (this.#wanted(next)) this.#samples.add(next, data, layout);
          next += 1;
        }
      } catch (error) {
        broken ??= toError(error);
        child.kill('SIGKILL');
      }
    });
    // A broken pipe is explained by the program's end, below.
    input.on('error', () => {});
    const ended = new Promise<Error | undefined>((resolve) => {
      let spawnError: Error | undefined;
      child.on('error', (error) => {
        spawnError = error;
      });
      child.on('close', (code, killedBy) => {
        if (signal.aborted) resolve(asCanceled(signal.reason));
        else if (broken) resolve(this.#error('its sampled pictures could not be read', log, broken));
        else if (spawnError) resolve(this.#error('the encoder could not be started', log, spawnError));
        else if (code !== 0)
          resolve(this.#error(`the encoder ended with ${killedBy ?? `code ${code}`}`, log));
        else resolve(undefined);
      });
    }).then((error) => {
      this.#failure = error;
      this.#options.onQueued(-this.#queued);
      this.#queued = 0;
      this.#wake?.();
      return error;
    });
    const track = pictureTrack(first, this.#options.fps);
    if (track) input.write(matroskaHeader(track));
    return { child, input, log, ended, startedAt, first };
  }

  /** Whether the statistics of the episode that `frame` lies in may need it. */
  #wanted(frame: number): boolean {
    if (this.#options.expectedFrames !== undefined) return true;
    const start = this.#episodes.findLast((first) => first <= frame) ?? 0;
    return isCandidate(frame - start, undefined);
  }

  #error(what: string, log: FfmpegLog, cause?: Error): EncodeError {
    const { feature } = this.#options;
    const said = log.tail === '' ? '' : `: ${log.tail}`;
    return new EncodeError(
      `${feature.key}: ${what} after ${this.#frames} frames${said}`,
      cause ? { cause } : undefined,
    );
  }

  #write(picture: EncoderPicture, index: number): void {
    const running = this.#running;
    if (!running || this.#failure) return;
    const { data } = picture;
    this.#queued += data.length;
    this.#options.onQueued(data.length);
    // Head and picture leave in one system call.
    running.input.cork();
    if (pictureTrack(running.first, this.#options.fps)) {
      running.input.write(matroskaFrame(index, this.#options.fps, data.length));
    }
    running.input.write(data, () => {
      if (this.#failure) return;
      this.#queued -= data.length;
      this.#options.onQueued(-data.length);
      if (this.#queued <= QUEUE_BYTES) this.#wake?.();
    });
    running.input.uncork();
  }
}
