import { InputError } from '../errors.ts';
import { suits } from '../frame/suits.ts';
import type { Probe } from '../frame/types.ts';
import { isPictureSchema, toPicture } from '../recording/image.ts';
import { pngHeader } from '../recording/image-format.ts';
import type { Message, Picture, Recording } from '../recording/types.ts';
import type { ChannelReaders } from './channels.ts';
import { OtherNames } from './other-names.ts';
import type { DatasetConfig } from './config.ts';

/**
 * Reads the first message of every wanted topic: what the mapping needs to know, from a handful of chunks. Where
 * damage is tolerated it is the first one that has what the config takes from it. The recording's other topics get an
 * empty probe, so that a message about a missing topic can name its neighbours.
 */
export async function probeTopics(
  recording: Recording,
  topics: ReadonlySet<string>,
  readers: ChannelReaders,
  config: DatasetConfig,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, Probe>> {
  const usable = config.tolerate.undecodable === 0 ? undefined : usableBy(config, readers);
  const first = await firstMessages(recording, topics, usable, signal);
  const probes = new Map<string, Probe>();
  for (const channel of recording.channels) {
    const { topic } = channel;
    if (probes.has(topic)) continue;
    const message = first.get(topic);
    const probe = message ? probeOf(message, readers) : emptyProbe(topic, channel.schema.name);
    const others = await otherPublishers(recording, probe, readers, signal);
    const size =
      probe.picture?.width === 0 ? await sizeOfStream(recording, topic, readers, usable, signal) : {};
    probes.set(topic, {
      ...probe,
      ...(probe.picture && { picture: { ...probe.picture, ...size } }),
      ...(others.length > 0 && { others }),
    });
  }
  return probes;
}

/** The size of a coded video that begins before its first key frame, which alone tells it. */
async function sizeOfStream(
  recording: Recording,
  topic: string,
  readers: ChannelReaders,
  usable: Usable | undefined,
  signal: AbortSignal,
): Promise<{ width: number; height: number }> {
  for await (const message of recording.messages({ topics: new Set([topic]), signal })) {
    if (usable && !usable(message)) continue;
    const { width, height } = toPicture(readers.decode(message), message.channel);
    if (width > 0) return { width, height };
  }
  throw new InputError(`topic ${topic}: expected a key frame in its video, found none`);
}

/** Messages of a joint topic that are looked at for those of other publishers. */
const PUBLISHERS_WITHIN = 100;

/** The first messages of a joint topic that name none of the joints named before: arm and gripper may share one. */
async function otherPublishers(
  recording: Recording,
  { topic, first }: Probe,
  readers: ChannelReaders,
  signal: AbortSignal,
): Promise<unknown[]> {
  const others = new OtherNames(first);
  if (!others.possible) return [];
  let looked = 0;
  for await (const message of recording.messages({ topics: new Set([topic]), signal })) {
    if (++looked > PUBLISHERS_WITHIN) break;
    others.add(() => readers.decode(message));
  }
  return others.found;
}

/** Messages looked at together before the topics that did not appear yet are looked up one by one. */
const TOGETHER = 5000;

/** Messages of a topic that are looked at for one to go by. */
const LOOKED_AT = 1000;

type Usable = (message: Message) => boolean;

/** Tells whether a message decodes, and has what the config takes from its topic. */
function usableBy(config: DatasetConfig, readers: ChannelReaders): Usable {
  return (message) => {
    try {
      const decoded = readers.decode(message);
      if (isPictureSchema(message.channel)) toPicture(decoded, message.channel);
      return suits(config, message.channel.topic, decoded);
    } catch (thrown) {
      if (thrown instanceof InputError) return false;
      throw thrown;
    }
  };
}

/** The first message of each topic that has one. Most topics begin together: one look at the beginning finds them. */
async function firstMessages(
  recording: Recording,
  topics: ReadonlySet<string>,
  usable: Usable | undefined,
  signal: AbortSignal,
): Promise<Map<string, Message>> {
  const present = new Set(recording.channels.map(({ topic }) => topic).filter((topic) => topics.has(topic)));
  const found = new Map<string, Message>();
  let looked = 0;
  for await (const message of recording.messages({ topics: present, signal })) {
    const { topic } = message.channel;
    if (!found.has(topic) && (usable?.(message) ?? true)) found.set(topic, kept(message));
    if (found.size === present.size || ++looked >= TOGETHER) break;
  }
  for (const topic of present) {
    if (found.has(topic)) continue;
    const message = await firstMessage(recording, topic, signal, usable);
    if (message) found.set(topic, message);
  }
  return found;
}

/** The first message of a topic in log time, its data copied; of the usable ones, if there is one. */
export async function firstMessage(
  recording: Recording,
  topic: string,
  signal: AbortSignal,
  usable?: Usable,
): Promise<Message | undefined> {
  let first: Message | undefined;
  let looked = 0;
  for await (const message of recording.messages({ topics: new Set([topic]), signal })) {
    if (usable?.(message) ?? true) return kept(message);
    first ??= kept(message);
    if (++looked >= LOOKED_AT) break;
  }
  return first;
}

/** What outlives the next message. Its position may be a getter of a class, which a spread would leave out. */
function kept({ channel, logTime, publishTime, data, position }: Message): Message {
  return { channel, logTime, publishTime, data: data.slice(), position };
}

function emptyProbe(topic: string, schemaName: string): Probe {
  return { topic, schemaName, first: undefined, hasStamp: false };
}

function probeOf(message: Message, readers: ChannelReaders): Probe {
  const { channel } = message;
  const first = readers.decode(message);
  const probe = {
    topic: channel.topic,
    schemaName: channel.schema.name,
    first,
    hasStamp: readers.hasStamp(channel),
  };
  if (!isPictureSchema(channel)) return probe;
  return { ...probe, picture: describePicture(toPicture(first, channel)) };
}

/** Size and kind: sixteen bits or floats in one channel are depth, everything else is stored in three channels. */
export function describePicture(picture: Picture): NonNullable<Probe['picture']> {
  const { width, height } = picture;
  const float = picture.format === 'raw' && picture.pixelFormat === 'grayf32le';
  const integer = picture.format === 'raw' && picture.pixelFormat === 'gray16le';
  const coded = picture.format === 'png' && isDepthPng(picture.data);
  if (picture.format === 'h264' || picture.format === 'h265') {
    return { width, height, channels: 3, depth: false, coded: picture.format };
  }
  if (!float && !integer && !coded) return { width, height, channels: 3, depth: false };
  const light = 'light' in picture ? { light: picture.light } : {};
  return { width, height, channels: 1, depth: true, depthUnit: float ? 'm' : 'mm', ...light };
}

/** A grey PNG of 16 bits. */
function isDepthPng(data: Uint8Array): boolean {
  const { bits, colourType } = pngHeader(data);
  return bits === 16 && colourType === 0;
}
