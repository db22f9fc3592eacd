import { InputError, throwIfAborted } from '../errors.ts';
import { messagesOf } from './blocks.ts';
import { contentOf, learnFrom, recordsOf } from './mcap-chunk.ts';
import type { McapBlock } from './mcap-chunk.ts';
import { channelRanges, spanOf, timesOf } from './channel-ranges.ts';
import type { ChannelRanges } from './channel-ranges.ts';
import {
  MCAP_MAGIC,
  OPCODE,
  RECORD_HEAD,
  parseHeader,
  parseMessageIndex,
  parseMetadata,
  recordAt,
  recordHeadAt,
} from './mcap-records.ts';
import { scan } from './mcap-scan.ts';
import type { McapContents } from './mcap-scan.ts';
import { gapsIn, readEnd, readSummary } from './mcap-summary.ts';
import type { OpenOptions } from './open-options.ts';
import { byTopic, selectChannels } from './topics.ts';
import type { ByteSource, Channel, Loss, Message, Recording, RecordingFile, TopicRange } from './types.ts';
import { Window } from './window.ts';

/** Opens an MCAP file. The recording closes `file`; when opening fails the caller still has to. */
export async function openMcap(file: RecordingFile, options: OpenOptions = {}): Promise<Recording> {
  const recover = options.recover ?? true;
  const window = await Window.over(file);
  const contents = await readContents(window, { recover, signal: options.signal });
  return new McapRecording(file, contents, recover);
}

type ReadOptions = {
  readonly recover: boolean;
  readonly signal?: AbortSignal | undefined;
};

async function readContents(window: Window, options: ReadOptions): Promise<McapContents> {
  const { contents, start } = await readStart(window);
  const end = await readEnd(window);
  if (end.kind === 'truncated') {
    if (!options.recover) {
      throw new InputError(
        `expected an MCAP file with a footer, found one of ${window.size} bytes without: it was cut off or never closed`,
      );
    }
    await scan(window, start, window.size, contents, options);
    if (contents.losses.length === 0) contents.losses.push({ what: 'the file has no footer' });
    return contents;
  }
  if (end.kind === 'summary') {
    try {
      return await readIndexed(window, start, end, contents, options);
    } catch (thrown) {
      if (!(thrown instanceof InputError) || !options.recover) throw thrown;
      const fresh = { ...emptyContents(), profile: contents.profile, library: contents.library };
      fresh.losses.push({
        what: `the summary cannot be used (${thrown.message}); the file was read without`,
      });
      await scan(window, start, end.footer, fresh, options);
      return fresh;
    }
  }
  await scan(window, start, end.footer, contents, options);
  return contents;
}

async function readStart(window: Window): Promise<{ contents: McapContents; start: number }> {
  const magic = MCAP_MAGIC.byteLength;
  const contents = emptyContents();
  if (window.size < magic + RECORD_HEAD) return { contents, start: Math.min(magic, window.size) };
  const { opcode, length } = recordHeadAt(await window.at(magic, RECORD_HEAD), 0);
  const start = magic + RECORD_HEAD + length;
  if (opcode !== OPCODE.header || start > window.size) return { contents, start: magic };
  Object.assign(contents, parseHeader(await window.at(magic + RECORD_HEAD, length)));
  return { contents, start };
}

function emptyContents(): McapContents {
  return {
    profile: '',
    library: '',
    schemas: new Map(),
    channels: new Map(),
    blocks: [],
    metadata: [],
    losses: [],
  };
}

/** The summary, and what it leaves open: records it does not list, channels it does not repeat. */
async function readIndexed(
  window: Window,
  start: number,
  end: { kind: 'summary'; start: number; footer: number; crc: number },
  contents: McapContents,
  options: ReadOptions,
): Promise<McapContents> {
  const { covered, metadata } = await readSummary(window, end, contents);
  for (const extent of metadata) {
    const record = recordAt(await window.at(extent.offset, extent.length), 0);
    if (record?.opcode !== OPCODE.metadata) {
      throw new InputError(`MCAP summary: expected a metadata record at byte ${extent.offset}`);
    }
    contents.metadata.push(parseMetadata(record.body));
  }
  for (const gap of gapsIn(covered, start, end.start))
    await scan(window, gap.from, gap.to, contents, options);
  const listed = contents.blocks.splice(0);
  for (const block of listed) {
    if (block.channelIds && [...block.channelIds].every((id) => contents.channels.has(id))) {
      contents.blocks.push(block);
      continue;
    }
    // without a message index, or with channels that the summary does not repeat, only the chunk itself tells
    throwIfAborted(options.signal);
    const bytes = await window.at(block.offset, block.length);
    const ranges = learnFrom(block, await recordsOf(block, bytes), contents);
    if (ranges.size > 0) contents.blocks.push({ ...block, ...spanOf(ranges) });
  }
  return contents;
}

class McapRecording implements Recording {
  readonly container = 'mcap';
  readonly channels: readonly Channel[];
  readonly startTime: bigint;
  readonly endTime: bigint;
  readonly metadata: Recording['metadata'];
  readonly writtenBy: string;
  readonly losses: Loss[];
  readonly #file: RecordingFile;
  readonly #contents: McapContents;
  readonly #byId: ReadonlyMap<number, Channel>;
  readonly #recover: boolean;
  readonly #damaged = new Set<number>();
  readonly #checked = new Set<number>();

  constructor(file: RecordingFile, contents: McapContents, recover: boolean) {
    this.#file = file;
    this.#contents = contents;
    this.#recover = recover;
    this.channels = channelsOf(contents);
    this.#byId = new Map(this.channels.map((channel) => [channel.id, channel]));
    this.metadata = contents.metadata;
    this.writtenBy = [contents.library, contents.profile && `profile ${contents.profile}`]
      .filter(Boolean)
      .join(', ');
    this.losses = contents.losses;
    const { startTime, endTime } = timesOf(contents.blocks);
    this.startTime = startTime;
    this.endTime = endTime;
  }

  async topicRanges(): Promise<ReadonlyMap<string, TopicRange> | undefined> {
    const { blocks, counts } = this.#contents;
    try {
      const ranges = await channelRanges(blocks, counts, (block) => messageIndexOf(this.#file, block));
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
        parse: async (block, bytes) =>
          contentOf(block, await recordsOf(block, bytes, this.#checked), this.#byId),
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

  #lose(block: McapBlock, error: InputError): void {
    if (!this.#recover) throw error;
    if (this.#damaged.has(block.offset)) return;
    this.#damaged.add(block.offset);
    this.losses.push({ what: error.message, bytes: block.length });
  }
}

function channelsOf(contents: McapContents): Channel[] {
  return [...contents.channels.values()].map((record) => {
    const schema = contents.schemas.get(record.schemaId);
    if (!schema && record.schemaId !== 0) {
      throw new InputError(`topic ${record.topic}: its schema ${record.schemaId} is missing from the file`);
    }
    const count = contents.counts?.get(record.id);
    return {
      id: record.id,
      topic: record.topic,
      messageEncoding: record.messageEncoding,
      schema: schema ?? { name: '', encoding: '', data: new Uint8Array(0) },
      ...(count === undefined ? {} : { messageCount: count }),
      metadata: record.metadata,
    };
  });
}

/** Ranges of a chunk's channels from its message index. */
async function messageIndexOf(source: ByteSource, block: McapBlock): Promise<ChannelRanges | undefined> {
  if (!block.index) return undefined;
  const bytes = await source.read(BigInt(block.index.offset), BigInt(block.index.length));
  const ranges = new Map<number, TopicRange>();
  for (let offset = 0; offset < bytes.byteLength;) {
    const record = recordAt(bytes, offset);
    if (!record) return undefined;
    offset = record.end;
    if (record.opcode !== OPCODE.messageIndex) continue;
    const index = parseMessageIndex(record.body);
    if (index.count > 0) ranges.set(index.channelId, index);
  }
  return ranges;
}
