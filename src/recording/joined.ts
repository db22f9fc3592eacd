import { InputError } from '../errors.ts';
import { printable } from './compression.ts';
import { MinHeap } from './min-heap.ts';
import { joinRanges } from './topics.ts';
import type { Channel, Loss, Message, Recording, TopicRange } from './types.ts';

/** One file of a recording that is made of several. */
export type Part = {
  readonly name: string;
  readonly recording: Recording;
  /** Applied to every payload, where the recorder compressed messages one by one. */
  readonly expand?: ((data: Uint8Array) => Uint8Array) | undefined;
};

/** What is known of the whole beside its parts. */
export type JoinedInfo = {
  readonly container: Recording['container'];
  readonly writtenBy: string;
  readonly metadata: Recording['metadata'];
  readonly losses: readonly Loss[];
  /** Whether messages that do not expand are losses, or end the reading. */
  readonly recover: boolean;
  /** Messages by topic, where the parts do not say. */
  readonly counts?: ReadonlyMap<string, number> | undefined;
};

/** Several recordings as one, in order of time; channels of the same topic and type become one. */
export class JoinedRecording implements Recording {
  readonly container: Recording['container'];
  readonly channels: readonly Channel[];
  readonly startTime: bigint;
  readonly endTime: bigint;
  readonly metadata: Recording['metadata'];
  readonly writtenBy: string;
  readonly #parts: readonly Part[];
  readonly #own: readonly Loss[];
  readonly #recover: boolean;
  /** Positions of messages that did not expand, by topic. */
  readonly #damaged = new Map<string, Set<string>>();
  readonly #joined: ReadonlyMap<Channel, Channel>;

  constructor(parts: readonly Part[], info: JoinedInfo) {
    this.#parts = parts;
    this.#own = info.losses;
    this.#recover = info.recover;
    this.container = info.container;
    this.metadata = info.metadata;
    this.writtenBy = info.writtenBy;
    const { channels, joined } = joinChannels(parts, info.counts);
    this.channels = channels;
    this.#joined = joined;
    const filled = parts.filter(({ recording }) => recording.endTime !== 0n || recording.startTime !== 0n);
    const starts = filled.map(({ recording }) => recording.startTime);
    const ends = filled.map(({ recording }) => recording.endTime);
    this.startTime = starts.reduce((a, b) => (b < a ? b : a), starts[0] ?? 0n);
    this.endTime = ends.reduce((a, b) => (b > a ? b : a), ends[0] ?? 0n);
  }

  get losses(): readonly Loss[] {
    const named = this.#parts.flatMap(({ name, recording }) =>
      recording.losses.map((loss) =>
        this.#parts.length > 1 ? { ...loss, what: `${name}: ${loss.what}` } : loss,
      ),
    );
    const damaged = Array.from(this.#damaged, ([topic, positions]) => {
      const [first] = positions;
      return {
        what: `${topic}: messages whose compression is damaged, the first ${first}`,
        count: positions.size,
      };
    });
    return [...this.#own, ...named, ...damaged];
  }

  async topicRanges(): Promise<ReadonlyMap<string, TopicRange> | undefined> {
    const joined = new Map<string, TopicRange>();
    for (const { recording } of this.#parts) {
      const ranges = await recording.topicRanges();
      if (!ranges) return undefined;
      for (const [topic, range] of ranges) {
        const known = joined.get(topic);
        joined.set(topic, known ? joinRanges(known, range) : range);
      }
    }
    return joined;
  }

  /** A part is begun when the time reaches its start, so parts that follow each other are read one by one. */
  async *messages(options: Parameters<Recording['messages']>[0] = {}): AsyncGenerator<Message, void, void> {
    const waiting = this.#parts.toSorted((a, b) =>
      a.recording.startTime < b.recording.startTime
        ? -1
        : a.recording.startTime > b.recording.startTime
          ? 1
          : 0,
    );
    const open = new MinHeap<Stream>(
      (a, b) => compare(a.current.logTime, b.current.logTime) || a.order - b.order,
    );
    let begun = 0;
    try {
      for (;;) {
        const front = open.peek();
        const next = waiting[begun];
        if (next && (!front || next.recording.startTime <= front.current.logTime)) {
          const iterator = next.recording.messages(options)[Symbol.asyncIterator]();
          const first = await iterator.next();
          if (first.done !== true) open.push({ part: next, iterator, current: first.value, order: begun });
          begun++;
          continue;
        }
        if (!front) return;
        const message = this.#adopt(front.part, front.current);
        if (message) yield message;
        const following = await front.iterator.next();
        if (following.done === true) {
          open.pop();
        } else {
          front.current = following.value;
          open.settle();
        }
      }
    } finally {
      for (const { iterator } of open.items()) await iterator.return?.();
    }
  }

  async close(): Promise<void> {
    for (const { recording } of this.#parts) await recording.close();
  }

  #adopt(part: Part, message: Message): Message | undefined {
    const channel = this.#joined.get(message.channel) ?? message.channel;
    let data = message.data;
    try {
      if (part.expand) data = part.expand(data);
    } catch (thrown) {
      if (!(thrown instanceof InputError)) throw thrown;
      const position = `${part.name}, ${message.position}`;
      if (!this.#recover) {
        throw new InputError(`topic ${printable(channel.topic)}: ${position}: ${thrown.message}`, {
          cause: thrown,
        });
      }
      const known = this.#damaged.get(channel.topic) ?? new Set();
      this.#damaged.set(channel.topic, known.add(position));
      return undefined;
    }
    return {
      channel,
      logTime: message.logTime,
      publishTime: message.publishTime,
      data,
      get position() {
        return `${part.name}, ${message.position}`;
      },
    };
  }
}

type Stream = {
  readonly part: Part;
  readonly iterator: AsyncIterator<Message>;
  readonly order: number;
  current: Message;
};

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function joinChannels(
  parts: readonly Part[],
  known: ReadonlyMap<string, number> | undefined,
): {
  channels: readonly Channel[];
  joined: ReadonlyMap<Channel, Channel>;
} {
  const groups = new Map<string, Channel[]>();
  for (const { recording } of parts) {
    const seen = new Map<string, number>();
    for (const channel of recording.channels) {
      const { schema, topic, messageEncoding } = channel;
      const definition = Buffer.from(schema.data).toString('base64');
      const key = JSON.stringify([topic, messageEncoding, schema.name, schema.encoding, definition]);
      // several alike in one file (ROS 1 connections) stay several
      const nth = seen.get(key) ?? 0;
      seen.set(key, nth + 1);
      const group = groups.get(`${key} ${nth}`) ?? [];
      group.push(channel);
      groups.set(`${key} ${nth}`, group);
    }
  }
  const channels: Channel[] = [];
  const joined = new Map<Channel, Channel>();
  for (const group of groups.values()) {
    const [first] = group;
    if (!first) continue;
    const { messageCount: _, ...rest } = first;
    const counts = group.map((channel) => channel.messageCount);
    const total = counts.reduce<number | undefined>(
      (sum, count) => (sum === undefined || count === undefined ? undefined : sum + count),
      0,
    );
    const count = total ?? known?.get(first.topic);
    const channel = { ...rest, id: channels.length, ...(count === undefined ? {} : { messageCount: count }) };
    channels.push(channel);
    for (const part of group) joined.set(part, channel);
  }
  return { channels, joined };
}
