import { InputError, throwIfAborted } from '../errors.ts';
import type { FrameAligner } from '../frame/aligner.ts';
import type { AlignedFrame, Sample } from '../frame/types.ts';
import { toPicture } from '../recording/image.ts';
import type { Message, Picture, Recording } from '../recording/types.ts';
import { CodedRows } from './coded-rows.ts';
import type { DatasetConfig } from './config.ts';
import type { ConversionPlan } from './plan.ts';
import { Slices } from './slices.ts';
import { SteadyPictures } from './steady-pictures.ts';

/** What the reading of one recording needs beside it. */
export type RowOptions = {
  readonly config: DatasetConfig;
  readonly name: string;
  readonly bufferMaxBytes: number;
  readonly signal: AbortSignal;
  /** Coded topics whose pictures stay as they are. */
  readonly copiedTopics?: ReadonlySet<string>;
  /** Bytes of samples held for rows to come; called after every message. */
  readonly onBuffered: (bytes: number) => void;
};

/**
 * Pulls a recording's messages in log order through decoders and aligner, and yields its rows. Decoded pictures are
 * copies: the reader may reuse its chunk. Throws an `InputError` when more samples must be held than
 * `bufferMaxBytes`, or when more messages than `tolerate.undecodable` do not decode.
 */
export async function* alignedRows(
  recording: Recording,
  plan: ConversionPlan,
  aligner: FrameAligner,
  options: RowOptions,
): AsyncGenerator<AlignedFrame> {
  const { mapping, readers, topics } = plan;
  const { undecodable: tolerated } = options.config.tolerate;
  const undecodable = new UndecodableCount(options.name, tolerated);
  const coded = new CodedRows(options.signal, options.copiedTopics);
  const steady = new SteadyPictures(mapping);
  const slices = new Slices();
  const sourcesOf = new Map(
    [...topics].map((topic) => [topic, mapping.sources.filter((source) => source.topic === topic)]),
  );
  try {
    for await (const message of recording.messages({ topics, signal: options.signal })) {
      if (slices.over) await slices.next();
      throwIfAborted(options.signal);
      const sources = sourcesOf.get(message.channel.topic) ?? [];
      let decoded: { readonly value: unknown } | undefined;
      let shown: Picture | undefined;
      let picture: Promise<Taken> | undefined;
      undecodable.seen(message.channel.topic);
      aligner.advance(message.logTime);
      for (const source of sources) {
        let time: bigint | undefined;
        let value: Taken;
        try {
          time = readers.time(message, source.clock);
          if (source.kind === 'reference') {
            aligner.push(source.index, { time, logTime: message.logTime, value: undefined, bytes: 0 });
            continue;
          }
          decoded ??= { value: readers.decode(message) };
          if (source.kind === 'picture') {
            shown ??= toPicture(decoded.value, message.channel);
            steady.check(source, shown);
            picture ??= coded.take(source.topic, shown);
            value = await picture;
          } else {
            const own = source.read(decoded.value);
            if (own === undefined) {
              aligner.foreign(source.index);
              continue;
            }
            value = valueOf(own);
          }
        } catch (thrown) {
          undecodable.add(message, thrown);
          if (source.kind === 'picture' && !shown) coded.lose(source.topic);
          aligner.undecodable(source.index, time);
          continue;
        }
        if (value) aligner.push(source.index, { time, logTime: message.logTime, ...value });
        else aligner.undecodable(source.index, time);
      }
      // `yield*` would wait for a promise after every message, of which few complete a row
      for (const row of coded.pass(aligner.ready())) yield row;
      const buffered = aligner.bufferedBytes + coded.bytes;
      options.onBuffered(buffered);
      if (buffered > options.bufferMaxBytes) throw tooFarApart(options, buffered);
    }
    undecodable.check();
    await coded.finish(tolerated);
    yield* coded.pass(aligner.finish());
    options.onBuffered(0);
  } finally {
    coded.abort();
  }
}

/** A value on its way into the aligner; undefined for a coded picture before the first key frame. */
type Taken = Pick<Sample, 'value' | 'bytes'> | undefined;

function valueOf(value: Float64Array | string): Taken {
  return { value, bytes: typeof value === 'string' ? value.length * 2 : value.byteLength };
}

/** Messages that did not decode, by topic, against the share that is tolerated. */
class UndecodableCount {
  readonly #name: string;
  readonly #tolerated: number;
  readonly #topics = new Map<string, { seen: number; failed: number; first?: string }>();

  constructor(name: string, tolerated: number) {
    this.#name = name;
    this.#tolerated = tolerated;
  }

  seen(topic: string): void {
    const count = this.#topics.get(topic);
    if (count) count.seen++;
    else this.#topics.set(topic, { seen: 1, failed: 0 });
  }

  /** Counts one failed message; throws at once when none is tolerated. Other errors than `InputError` pass on. */
  add(message: Message, thrown: unknown): void {
    if (!(thrown instanceof InputError)) throw thrown;
    if (this.#tolerated === 0) throw this.#located(message, thrown);
    const count = this.#topics.get(message.channel.topic);
    if (!count) throw thrown;
    count.failed++;
    count.first ??= this.#located(message, thrown).message;
  }

  /** At the end: throws when a topic lost more than its tolerated share. */
  check(): void {
    for (const [topic, { seen, failed, first }] of this.#topics) {
      if (failed <= this.#tolerated * seen) continue;
      throw new InputError(
        `${this.#name}: ${failed} of ${seen} messages of ${topic} do not decode, more than tolerate.undecodable ` +
          `(${this.#tolerated}); the first: ${first}`,
      );
    }
  }

  #located(message: Message, error: InputError): InputError {
    const place = `${message.channel.topic} at ${message.position}`;
    if (error.message.includes(message.position)) return error;
    return new InputError(`${this.#name}: message of ${place}: ${error.message}`, { cause: error });
  }
}

function tooFarApart(options: RowOptions, bytes: number): InputError {
  return new InputError(
    `${options.name}: the streams are so far apart in time that ${bytes} bytes of samples would have to be held, ` +
      `more than BUFFER_MAX_BYTES (${options.bufferMaxBytes}); compare their clocks with roboflow inspect`,
  );
}
