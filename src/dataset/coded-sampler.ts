import { EncodeError, toError } from '../errors.ts';
import type { Feature, Picture } from '../frame/types.ts';
import { findFfmpeg } from './ffmpeg.ts';
import { FfmpegPipe } from './ffmpeg-pipe.ts';
import { matroskaFrame, matroskaHeader } from './matroska.ts';
import { SampleStream } from './picture-histogram.ts';
import { PictureSamples } from './picture-samples.ts';
import { isCandidate, sampleStride, samplingStep } from './picture-sampling.ts';

type CodedPicture = Extract<Picture, { format: 'h264' | 'h265' }>;

/** Pictures are numbered by their time, this many a second; only the order counts. */
const TICKS = 25;

/** Key frames that are enough for statistics without decoding the pictures between them. */
const ENOUGH_KEY_FRAMES = 20;

/** The most key frames that are decoded of an episode whose length is known: LeRobot's own least number of samples. */
const MOST_KEY_FRAMES = 100;

/**
 * Decodes some pictures of a coded stream for the statistics of a copied video. Where there are enough key frames,
 * those nearest after the wanted pictures stand for them, because nothing else need be decoded; else all pictures are.
 */
export class CodedSampler {
  readonly samples: PictureSamples;
  readonly #feature: Feature;
  readonly #keyFrames: boolean;
  readonly #expected: number | undefined;
  readonly #options: { readonly signal: AbortSignal; readonly ffmpeg?: string | undefined };
  /** Frames whose pictures the decoder gives next. */
  readonly #sent: number[] = [];
  #pipe: FfmpegPipe | undefined;
  #broken: Error | undefined;
  #ticks = 0;
  #due = 0;
  #episodeStart = 0;

  /** `keyFrames`: how many the video has; `expected`: its frames when it is one episode; `path`: file for samples. */
  constructor(
    feature: Feature,
    video: { readonly keyFrames: number; readonly expected: number | undefined; readonly path: string },
    options: { readonly signal: AbortSignal; readonly ffmpeg?: string | undefined },
  ) {
    this.#feature = feature;
    this.samples = new PictureSamples(feature.key, video.path);
    this.#keyFrames = video.keyFrames >= ENOUGH_KEY_FRAMES;
    this.#expected = video.expected;
    this.#options = options;
  }

  startEpisode(frame: number): void {
    this.#episodeStart = frame;
    this.#due = frame;
  }

  async add(frame: number, picture: CodedPicture): Promise<void> {
    const wanted = this.#wanted(frame, picture);
    if (this.#keyFrames && !wanted) return;
    this.#pipe ??= await this.#start(picture);
    this.#sent.push(wanted ? frame : -1);
    await this.#pipe.write(matroskaFrame(this.#ticks++, TICKS, picture.data.length), picture.data);
  }

  /** Waits for the last picture. Throws `EncodeError` unless every picture that was sent came back. */
  async finish(): Promise<void> {
    await this.#pipe?.finish();
    if (this.#broken) throw this.#broken;
    if (this.#sent.length > 0) {
      throw new EncodeError(`${this.#feature.key}: ${this.#sent.length} of its coded pictures do not decode`);
    }
  }

  async abort(): Promise<void> {
    await this.#pipe?.abort();
  }

  #wanted(frame: number, { keyframe }: CodedPicture): boolean {
    const index = frame - this.#episodeStart;
    if (!this.#keyFrames) return isCandidate(index, this.#expected);
    // The first key frame of an episode stands for what was wanted before it, too.
    if (!keyframe || frame < this.#due) return false;
    this.#due =
      frame + Math.max(samplingStep(index, this.#expected), (this.#expected ?? 0) / MOST_KEY_FRAMES);
    return true;
  }

  async #start({ format, width, height }: CodedPicture): Promise<FfmpegPipe> {
    // Old FFmpeg versions do not know H.265 by its Windows name.
    const codec = ['-c:v', format === 'h264' ? 'h264' : 'hevc'];
    // Key frames alone can be decoded two at a time: none waits for another.
    const decoder = [
      ...codec,
      ...(this.#keyFrames ? ['-threads', '2'] : ['-flags', 'low_delay', '-threads', '1']),
    ];
    const input = [
      '-analyzeduration',
      '0',
      '-fpsprobesize',
      '0',
      '-f',
      'matroska',
      ...decoder,
      '-i',
      'pipe:0',
    ];
    // Only the pixels that are counted are converted.
    const stride = sampleStride(width, height);
    const layout = {
      width: Math.ceil(width / stride),
      height: Math.ceil(height / stride),
      format: 'rgb24',
    } as const;
    const exact = 'neighbor+accurate_rnd+full_chroma_int+full_chroma_inp';
    const { syncOption } = await findFfmpeg(this.#options.ffmpeg);
    const scale = `scale=${layout.width}:${layout.height}:flags=${exact},format=rgb24`;
    const args = ['-vf', scale, syncOption, 'passthrough'];
    const output = ['-f', 'rawvideo', 'pipe:1'];
    const where = `${this.#feature.key}: the decoder of its samples`;
    const pipe = await FfmpegPipe.start(where, [...input, ...args, ...output], {
      ...this.#options,
      output: true,
    });
    const stream = new SampleStream(layout);
    pipe.child.stdout?.on('data', (chunk: Buffer) => {
      try {
        for (const { data, layout } of stream.push(chunk)) {
          const frame = this.#sent.shift() ?? -1;
          if (frame >= 0) this.samples.add(frame, data, layout);
        }
      } catch (error) {
        this.#broken ??= toError(error);
        pipe.child.kill('SIGKILL');
      }
    });
    await pipe.write(matroskaHeader({ codec: format, width, height, fps: TICKS }));
    return pipe;
  }
}
