import type { ChildProcess } from 'node:child_process';
import { FfmpegLog, findFfmpeg, startFfmpeg } from '../dataset/ffmpeg.ts';
import { matroskaFrame, matroskaHeader } from '../dataset/matroska.ts';
import { asCanceled, EncodeError, InputError, toError } from '../errors.ts';
import type { Picture } from '../frame/types.ts';

type CodedPicture = Extract<Picture, { format: 'h264' | 'h265' }>;
type RawPicture = Extract<Picture, { format: 'raw' }>;

/** Pictures that may be on their way through the decoder at a time. */
const mostPending = 200;

/** Pictures are numbered by their time, this many a second; only the order counts. */
const ticks = 25;

/** Without these the colours of a stream in another matrix come out up to 5 levels too dark. */
const exact = 'accurate_rnd+full_chroma_int+full_chroma_inp';

/**
 * Decodes the coded pictures of one camera, one picture out for each one in. `decode` gives a picture whose pixels come
 * later: `isReady` says when. The pictures go through FFmpeg framed and numbered, so that one that does not decode
 * repeats the one before it or is mended, is counted in `failed`, and never shifts the others.
 */
export class CodedStream {
  failed = 0;
  private readonly where: string;
  private readonly signal: AbortSignal;
  private child: ChildProcess | undefined;
  private readonly log = new FfmpegLog();
  private readonly waiting: { picture: { data: Uint8Array }; bytes: number }[] = [];
  private readonly unready = new WeakSet<object>();
  private chunks: Buffer[] = [];
  private received = 0;
  private sent = 0;
  private line = '';
  private mended = 0;
  private size: { width: number; height: number; bytes: number } | undefined;
  private failure: Error | undefined;
  private arrived: (() => void) | undefined;
  private ended: Promise<void> = Promise.resolve();

  /** `where` names the camera in messages. */
  constructor(where: string, signal: AbortSignal) {
    this.where = where;
    this.signal = signal;
  }

  /**
   * Takes the next coded picture, the first of them a key frame.
   */
  async decode(coded: CodedPicture): Promise<RawPicture> {
    const { width, height } = coded;
    const child = this.child ?? (await this.start(coded));
    while (this.waiting.length >= mostPending && !this.failure) await this.next();
    if (this.failure) throw this.failure;
    const { bytes = 0 } = this.size ?? {};
    const picture = {
      format: 'raw',
      pixelFormat: 'yuv420p',
      width,
      height,
      data: new Uint8Array(0),
    } as const;
    this.unready.add(picture);
    this.waiting.push({ picture, bytes });
    const frame = Buffer.concat([matroskaFrame(this.sent++, ticks, coded.data.length), coded.data]);
    const { stdin } = child;
    if (stdin?.write(frame) === false) {
      const drained = new Promise((resolve) => stdin.once('drain', resolve));
      await Promise.race([drained, this.ended]);
    }
    return picture;
  }

  /** Pictures sent to the decoder. */
  get count(): number {
    return this.sent;
  }

  /** Memory of one decoded picture. */
  get pictureBytes(): number {
    return this.size?.bytes ?? 0;
  }

  /** Whether a picture's pixels are there. Throws what stopped the decoder. */
  isReady(picture: object): boolean {
    if (this.failure) throw this.failure;
    return !this.unready.has(picture);
  }

  /** Decodes what is left. Throws `InputError` when there are fewer pictures than were sent. */
  async finish(): Promise<void> {
    const { child } = this;
    if (!child) return;
    child.stdin?.end();
    await this.ended;
    this.failed = this.log.duplicated + this.mended;
    if (this.failure) throw this.failure;
    if (this.waiting.length > 0) {
      throw new InputError(
        `${this.where}: the last ${this.waiting.length} of ${this.sent} coded pictures do not decode: ${this.log.tail}`,
      );
    }
  }

  /** Ends the decoder as it is. */
  abort(): void {
    this.child?.kill('SIGKILL');
  }

  private async start({ format, width, height }: CodedPicture): Promise<ChildProcess> {
    this.size = { width, height, bytes: width * height + 2 * Math.ceil(width / 2) * Math.ceil(height / 2) };
    const args = [
      '-hide_banner',
      '-nostats',
      '-loglevel',
      'level+verbose',
      '-analyzeduration',
      '0',
      '-fpsprobesize',
      '0',
      '-flags',
      'low_delay',
      '-threads',
      '1',
      '-f',
      'matroska',
      // Old FFmpeg versions do not know H.265 by its Windows name.
      '-c:v',
      format === 'h264' ? 'h264' : 'hevc',
      '-i',
      'pipe:0',
      '-vf',
      // Raw pictures carry no colour description: they are BT.601 in limited range, whatever the stream was in.
      `fps=${ticks}:start_time=0:round=near,scale=out_color_matrix=bt601:out_range=limited:flags=${exact}`,
      '-f',
      'rawvideo',
      '-pix_fmt',
      'yuv420p',
      'pipe:1',
    ];
    const ffmpeg = await findFfmpeg();
    const child = startFfmpeg(ffmpeg, args, { stdio: ['pipe', 'pipe', 'pipe'], signal: this.signal });
    this.child = child;
    child.once('error', (cause) =>
      this.fail(new EncodeError(`${this.where}: the decoder stopped`, { cause })),
    );
    // What a broken pipe means is told by the exit of the program.
    child.stdin?.on('error', (error) => this.log.push(`${toError(error).message}\n`));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => this.read(text));
    child.stdout?.on('data', (chunk: Buffer) => this.receive(chunk));
    this.ended = new Promise((resolve) => {
      child.once('error', () => resolve());
      child.once('close', (code) => {
        if (code !== 0)
          this.fail(new EncodeError(`${this.where}: the decoder stopped (${code}): ${this.log.tail}`));
        this.arrived?.();
        resolve();
      });
    });
    child.stdin?.write(matroskaHeader({ codec: format, width, height, fps: ticks }));
    return child;
  }

  /** Reads what the decoder says; it mends damaged pictures by itself and tells. */
  private read(text: string): void {
    this.log.push(text);
    const lines = (this.line + text).split('\n');
    this.line = lines.pop() ?? '';
    this.mended += lines.filter((line) => /concealing \d+ DC|Could not find ref with POC/.test(line)).length;
  }

  private fail(error: Error): void {
    this.failure ??= this.signal.aborted ? asCanceled(this.signal.reason) : error;
    this.arrived?.();
  }

  /** Cuts the decoder's output into pictures. */
  private receive(chunk: Buffer): void {
    this.chunks.push(chunk);
    this.received += chunk.length;
    for (let next = this.waiting[0]; next && this.received >= next.bytes; next = this.waiting[0]) {
      const all = Buffer.concat(this.chunks);
      // A copy, so that a picture that is kept does not keep its neighbours.
      next.picture.data = Uint8Array.from(all.subarray(0, next.bytes));
      this.chunks = [all.subarray(next.bytes)];
      this.received -= next.bytes;
      this.unready.delete(next.picture);
      this.waiting.shift();
      this.arrived?.();
    }
  }

  /** Waits for a picture, or the end of the decoder. */
  private next(): Promise<void> {
    return new Promise((resolve) => {
      this.arrived = () => {
        this.arrived = undefined;
        resolve();
      };
    });
  }
}
