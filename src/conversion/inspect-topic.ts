import { InputError } from '../errors.ts';
import { beginsAtZero } from '../frame/arrival.ts';
import { createDecoder } from '../recording/decode.ts';
import { isPictureSchema, toPicture } from '../recording/image.ts';
import { createStampReader } from '../recording/stamp.ts';
import type { Channel, Decoder, Message, Picture } from '../recording/types.ts';
import { describePicture } from './probe.ts';
import { OtherNames } from './other-names.ts';
import type { TopicFacts } from './suggest.ts';

/** One topic of a recording. */
export type TopicInspection = {
  readonly topic: string;
  readonly type: string;
  readonly encoding: string;
  readonly messages: number;
  /** Messages a second between the first and the last; null with fewer than two. */
  readonly hz: number | null;
  /** First and last message, seconds from the recording's start. */
  readonly first: number | null;
  readonly last: number | null;
  readonly largestGap: number | null;
  /** Log time minus header stamp; null when the type has no stamp. */
  readonly stampLag: { readonly min: number; readonly median: number; readonly max: number } | null;
  /** Messages whose stamp is zero or earlier than the one before. */
  readonly stampFaults: number;
  readonly picture: { readonly format: string; readonly width: number; readonly height: number } | null;
  /** Numeric fields and names found in the first message, as config paths. */
  readonly fields: readonly string[];
  /** Why the topic cannot be converted; null when it can. */
  readonly refused: string | null;
};

/** Lags are sampled into a bounded reservoir: every 2^k-th message, k growing. */
const MAX_LAGS = 4096;

/** By how much stamps may run backwards by default and still be put in order, ns: `reorder` of the config. */
const REORDERED = 1_000_000_000n;

/** Messages of a joint topic that are looked at for those of other publishers. */
const LOOKED_AT = 100;

/** Gathers what one topic's messages tell; times are by the log clock. */
export class TopicScan {
  readonly topic: string;
  readonly #channel: Channel;
  readonly #stamp: ReturnType<typeof createStampReader>;
  #count = 0;
  #first = 0n;
  #last = 0n;
  #largestGap = 0n;
  #lags: bigint[] = [];
  #lagEvery = 1;
  #minLag: bigint | undefined;
  #maxLag: bigint | undefined;
  #previousStamp: bigint | undefined;
  #firstStamp = 0n;
  #newestStamp: bigint | undefined;
  #stampFaults = 0;
  /** Stamps of zero before the first other one; a clock that begins at zero has set them. */
  #leadingZeros = 0;
  /** Stamps that no reordering puts right. */
  #unusableStamps = 0;
  #decode: Decoder | undefined;
  #firstMessage: unknown;
  #others = new OtherNames(undefined);
  #picture: Picture | undefined;
  #fields: readonly string[] = [];
  #refused: string | null = null;

  constructor(channel: Channel) {
    this.topic = channel.topic;
    this.#channel = channel;
    this.#stamp = this.#attempt(() => createStampReader(channel));
  }

  add(message: Message): void {
    if (this.#count === 0) {
      this.#first = message.logTime;
      this.#attempt(() => this.#look(message));
    } else {
      if (message.logTime - this.#last > this.#largestGap) this.#largestGap = message.logTime - this.#last;
      if (this.#others.possible && this.#count < LOOKED_AT)
        this.#others.add(() => this.#decoder()(message.data));
      // A coded stream has nothing to show before its first key frame.
      if (this.#picture && 'keyframe' in this.#picture && !this.#picture.keyframe)
        this.#attempt(() => this.#look(message));
    }
    this.#last = message.logTime;
    this.#count++;
    const stamp = this.#stampOf(message);
    if (stamp !== undefined) this.#addLag(message.logTime - stamp);
  }

  result(start: bigint): TopicInspection {
    const some = this.#count > 0;
    const span = seconds(this.#last - this.#first);
    return {
      topic: this.#channel.topic,
      type: this.#channel.schema.name,
      encoding: this.#channel.messageEncoding,
      messages: this.#count,
      hz: this.#count > 1 && span > 0 ? (this.#count - 1) / span : null,
      first: some ? seconds(this.#first - start) : null,
      last: some ? seconds(this.#last - start) : null,
      largestGap: this.#count > 1 ? seconds(this.#largestGap) : null,
      stampLag: this.#lagResult(),
      stampFaults: this.#stampFaults + this.#leadingZeros,
      picture: this.#describePicture(),
      fields: this.#fields,
      refused: this.#refused,
    };
  }

  /** The first picture of a camera, of a coded one its first key frame. */
  get picture(): Picture | undefined {
    return this.#picture;
  }

  /** What a config can be suggested from; undefined when the topic cannot be converted or has no message. */
  facts(start: bigint): TopicFacts | undefined {
    if (this.#refused !== null || this.#count === 0) return undefined;
    const { messages, hz, first, last, largestGap, stampLag } = this.result(start);
    const stampFaults = this.#unusableStamps + this.#leadingZeros;
    const probe = {
      topic: this.topic,
      schemaName: this.#channel.schema.name,
      first: this.#firstMessage,
      hasStamp: this.#stamp !== undefined,
      ...(this.#others.found.length > 0 && { others: this.#others.found }),
      ...(this.#picture ? { picture: describePicture(this.#picture) } : {}),
    };
    const stamped = this.#newestStamp !== undefined && this.#newestStamp > this.#firstStamp;
    const span = stamped ? seconds((this.#newestStamp ?? 0n) - this.#firstStamp) : 0;
    const stampHz = span > 0 ? (this.#count - 1) / span : null;
    return { probe, messages, hz, first, last, largestGap, stampFaults, stampLag, stampHz };
  }

  #look(message: Message): void {
    const decoded = this.#decoder()(message.data);
    if (this.#count === 0) {
      this.#firstMessage = decoded;
      this.#others = new OtherNames(decoded);
      this.#fields = fieldsOf(decoded);
    }
    if (!isPictureSchema(this.#channel)) return;
    const picture = toPicture(decoded, this.#channel);
    this.#picture = { ...picture, data: picture.data.slice() };
  }

  #decoder(): Decoder {
    return (this.#decode ??= createDecoder(this.#channel));
  }

  #describePicture(): TopicInspection['picture'] {
    if (!this.#picture) return null;
    const { format, width, height } = this.#picture;
    return { format: this.#picture.format === 'raw' ? this.#picture.pixelFormat : format, width, height };
  }

  #stampOf(message: Message): bigint | undefined {
    if (!this.#stamp) return undefined;
    const stamp = this.#attempt(() => this.#stamp?.(message.data));
    const previous = this.#previousStamp;
    if (stamp === undefined) {
      if (previous === undefined) this.#leadingZeros++;
      else this.#stampFaults++;
      if (previous !== undefined) this.#unusableStamps++;
      return undefined;
    }
    if (previous === undefined) {
      const fromZero = this.#leadingZeros > 0 && beginsAtZero(stamp);
      this.#firstStamp = fromZero ? 0n : stamp;
      if (fromZero) this.#leadingZeros = 0;
    }
    if (stamp < this.#firstStamp) this.#firstStamp = stamp;
    if (previous !== undefined && stamp < previous) this.#stampFaults++;
    if (this.#newestStamp !== undefined && stamp < this.#newestStamp - REORDERED) this.#unusableStamps++;
    if (this.#newestStamp === undefined || stamp > this.#newestStamp) this.#newestStamp = stamp;
    this.#previousStamp = stamp;
    return stamp;
  }

  #addLag(lag: bigint): void {
    if (this.#minLag === undefined || lag < this.#minLag) this.#minLag = lag;
    if (this.#maxLag === undefined || lag > this.#maxLag) this.#maxLag = lag;
    if (this.#count % this.#lagEvery !== 0) return;
    this.#lags.push(lag);
    if (this.#lags.length < MAX_LAGS) return;
    this.#lags = this.#lags.filter((_, index) => index % 2 === 0);
    this.#lagEvery *= 2;
  }

  #lagResult(): TopicInspection['stampLag'] {
    if (this.#minLag === undefined || this.#maxLag === undefined) return null;
    const sorted = this.#lags.toSorted((a, b) => (a < b ? -1 : 1));
    const median = sorted[Math.floor(sorted.length / 2)] ?? this.#minLag;
    return { min: seconds(this.#minLag), median: seconds(median), max: seconds(this.#maxLag) };
  }

  /** A topic that cannot be read is a finding, not a failure. */
  #attempt<T>(work: () => T): T | undefined {
    try {
      return work();
    } catch (thrown) {
      if (!(thrown instanceof InputError)) throw thrown;
      this.#refused ??= thrown.message;
      return undefined;
    }
  }
}

function seconds(ns: bigint): number {
  return Number(ns) / 1e9;
}

const MAX_FIELDS = 60;

/** Paths of the numbers, texts and number arrays of a decoded message, in definition order. */
function fieldsOf(decoded: unknown): string[] {
  const fields: string[] = [];
  const walk = (value: unknown, path: string, depth: number) => {
    if (fields.length >= MAX_FIELDS || depth > 6) return;
    if (typeof value === 'object' && value !== null && !ArrayBuffer.isView(value) && !Array.isArray(value)) {
      for (const [key, inner] of Object.entries(value))
        walk(inner, path === '' ? key : `${path}.${key}`, depth + 1);
    } else if (ArrayBuffer.isView(value) || Array.isArray(value)) {
      const { length } = value as ArrayLike<unknown>;
      const first = (value as ArrayLike<unknown>)[0];
      if (typeof first === 'object' && first !== null) walk(first, `${path}[0]`, depth + 1);
      else fields.push(`${path}[${length}]`);
    } else if (value !== undefined && value !== null && typeof value !== 'function') fields.push(path);
  };
  walk(decoded, '', 0);
  return fields;
}
