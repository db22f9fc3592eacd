import { InputError } from '../errors.ts';
import { messagesOf } from './blocks.ts';
import { channelRanges, timesOf } from './channel-ranges.ts';
import type { OpenOptions } from './open-options.ts';
import { bagContentOf, bagRecordsOf } from './rosbag1-chunk.ts';
import type { BagBlock } from './rosbag1-chunk.ts';
import { chunkRanges, readBag } from './rosbag1-index.ts';
import type { BagContents } from './rosbag1-index.ts';
import { byTopic, selectChannels } from './topics.ts';
import type { Channel, Loss, Message, Recording, RecordingFile, TopicRange } from './types.ts';
import { Window } from './window.ts';

/** Opens a ROS 1 bag of version 2.0. The recording closes `file`; when opening fails the caller still has to. */
export async function openRosbag1(file: RecordingFile, options: OpenOptions = {}): Promise<Recording> {
  const recover = options.recover ?? true;
  const window = await Window.over(file);
  const contents = await readBag(window, { recover, signal: options.signal });
  return new BagRecording(file, window, contents, recover);
}

class BagRecording implements Recording {
  readonly container = 'rosbag1';
  readonly channels: readonly Channel[];
  readonly startTime: bigint;
  readonly endTime: bigint;
  readonly metadata = [];
  readonly writtenBy = 'rosbag 2.0';
  readonly losses: Loss[];
  readonly #file: RecordingFile;
  readonly #window: Window;
  readonly #contents: BagContents;
  readonly #byId: ReadonlyMap<number, Channel>;
  readonly #recover: boolean;
  readonly #damaged = new Set<number>();

  constructor(file: RecordingFile, window: Window, contents: BagContents, recover: boolean) {
    this.#file = file;
    this.#window = window;
    this.#contents = contents;
    this.#recover = recover;
    const { counts } = contents;
    this.channels = [...contents.channels.values()].map((channel) =>
      counts ? { ...channel, messageCount: counts.get(channel.id) ?? 0 } : channel,
    );
    this.#byId = new Map(this.channels.map((channel) => [channel.id, channel]));
    this.losses = contents.losses;
    const { startTime, endTime } = timesOf(contents.blocks);
    this.startTime = startTime;
    this.endTime = endTime;
  }

  async topicRanges(): Promise<ReadonlyMap<string, TopicRange> | undefined> {
    const { blocks, counts } = this.#contents;
    try {
      const ranges = await channelRanges(blocks, counts, (block) => chunkRanges(this.#window, block));
      return ranges && byTopic(this.#byId, ranges);
    } catch (thrown) {
      if (!this.#recover || !(thrown instanceof InputError)) throw thrown;
      return undefined;
    }
  }

  messages(
    options: { topics?: ReadonlySet<string>; start?: bigint; end?: bigint; signal?: AbortSignal } = {},
  ): AsyncIterable<Message> {
    return messagesOf(
      {
        source: this.#file,
        blocks: this.#contents.blocks,
        parse: async (block, bytes) => bagContentOf(block, await bagRecordsOf(block, bytes), this.#byId),
        damaged: (block, error) => this.#lose(block, error),
      },
      {
        channels: selectChannels(this.channels, options.topics),
        start: options.start,
        end: options.end,
        signal: options.signal,
      },
    );
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  #lose(block: BagBlock, error: InputError): void {
    if (!this.#recover) throw error;
    if (this.#damaged.has(block.offset)) return;
    this.#damaged.add(block.offset);
    this.losses.push({ what: error.message, bytes: block.length });
  }
}
