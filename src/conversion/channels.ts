import { InputError } from '../errors.ts';
import type { Clock } from '../frame/types.ts';
import { createDecoder } from '../recording/decode.ts';
import { createStampReader } from '../recording/stamp.ts';
import type { Channel, Decoder, Message, Recording } from '../recording/types.ts';

type Reader = {
  readonly decode: Decoder;
  readonly stamp: ((data: Uint8Array) => bigint | undefined) | undefined;
};

/** Decoders and stamp readers for the channels of some topics, made once per conversion. */
export class ChannelReaders {
  readonly #readers = new Map<number, Reader>();
  readonly #name: string;

  /** Throws an `InputError` that names topic and encoding when a channel cannot be decoded. */
  constructor(recording: Recording, topics: ReadonlySet<string>, name: string) {
    this.#name = name;
    for (const channel of recording.channels) {
      if (!topics.has(channel.topic)) continue;
      this.#readers.set(channel.id, { decode: createDecoder(channel), stamp: createStampReader(channel) });
    }
  }

  /** Whether messages of this channel carry a header stamp. */
  hasStamp(channel: Channel): boolean {
    return this.#reader(channel).stamp !== undefined;
  }

  /**
   * The message's place on the timeline in ns; 0 when the clock is `header` and the stamp is zero. Throws `InputError`
   * when the message is too damaged to tell.
   */
  time(message: Message, clock: Clock): bigint {
    if (clock === 'log') return message.logTime;
    if (clock === 'publish') return message.publishTime;
    return this.#reader(message.channel).stamp?.(message.data) ?? 0n;
  }

  /** The decoded payload; throws an `InputError` that names topic and position. */
  decode(message: Message): unknown {
    try {
      return this.#reader(message.channel).decode(message.data);
    } catch (cause) {
      const detail = cause instanceof Error ? cause.message : String(cause);
      throw new InputError(
        `${this.#name}: a message of ${message.channel.topic} (${message.channel.schema.name}) at ${message.position} ` +
          `does not decode: ${detail}`,
        { cause },
      );
    }
  }

  #reader(channel: Channel): Reader {
    const reader = this.#readers.get(channel.id);
    if (!reader)
      throw new InputError(`${this.#name}: channel ${channel.id} of ${channel.topic} was not planned for`);
    return reader;
  }
}
