import { mkdir, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { Registry } from 'prom-client';
import { type Inspection, inspectRecording } from '../conversion/inspect.ts';
import { openSource } from '../conversion/source.ts';
import { suggestConfig } from '../conversion/suggest.ts';
import { InputError } from '../errors.ts';
import { createMetrics } from '../metrics/index.ts';
import { withReleasers } from '../releasers.ts';
import { localError } from '../storage/local-errors.ts';
import { type CliContext, printJson, printLines, toUrl } from './context.ts';
import type { Picture } from '../recording/types.ts';
import { sourceSettings } from './settings.ts';
import { table } from './table.ts';
import { humanBytes, humanSeconds } from './words.ts';

/** Shows what a recording holds: for people, as JSON, or as a config to start from. */
export async function inspect(recording: string, options: Options, context: CliContext): Promise<void> {
  const { inspection, facts, pictures } = await look(recording, context);
  const shown =
    options.pictures === undefined ? [] : await writePictures(pictures, options.pictures, context);
  if (options.suggest) context.out.write(suggestConfig(facts));
  else if (options.json) printJson(context, { ...inspection, pictures: shown });
  else
    printLines(context, ...describe(inspection), ...(shown.length > 0 ? ['', ...shown.map(shownLine)] : []));
}

type Options = { json?: boolean; suggest?: boolean; pictures?: string };

/** The picture of a topic: where it lies, or why there is none. */
type Shown = { readonly topic: string; readonly path?: string; readonly reason?: string };

async function writePictures(
  pictures: ReadonlyMap<string, Picture>,
  folder: string,
  { signal }: CliContext,
): Promise<Shown[]> {
  const { pngOf } = await import('../conversion/picture-png.ts');
  const place = resolve(folder);
  await mkdir(place, { recursive: true }).catch((thrown: unknown) => {
    throw localError(thrown, 'write pictures to', place);
  });
  const used = new Map<string, number>();
  const shown: Shown[] = [];
  for (const [topic, picture] of pictures) {
    const name = topic.replaceAll(/[^A-Za-z0-9_-]+/g, '_').replaceAll(/^_+|_+$/g, '') || 'camera';
    const times = (used.get(name) ?? 0) + 1;
    used.set(name, times);
    const path = join(place, `${name}${times > 1 ? `-${times}` : ''}.png`);
    try {
      await writeFile(path, await pngOf(picture, signal));
      shown.push({ topic, path });
    } catch (thrown) {
      if (!(thrown instanceof InputError)) throw thrown;
      shown.push({ topic, reason: thrown.message });
    }
  }
  return shown;
}

function shownLine({ topic, path, reason }: Shown): string {
  return `${topic}: ${path ?? `no picture: ${reason}`}`;
}

async function look(recording: string, context: CliContext) {
  const { signal } = context;
  return withReleasers(async (release) => {
    const metrics = createMetrics(new Registry());
    const source = await openSource(toUrl(recording), { metrics, signal, sources: sourceSettings() }, true);
    release(() => source.close());
    return inspectRecording(source, signal);
  });
}

function describe(inspection: Inspection): string[] {
  const { start, seconds, topics, losses, metadata } = inspection;
  const rows = topics.map((topic) => [
    topic.topic,
    topic.type,
    topic.encoding,
    String(topic.messages),
    topic.hz === null ? '-' : topic.hz.toFixed(1),
    topic.first === null ? '-' : topic.first.toFixed(3),
    topic.last === null ? '-' : topic.last.toFixed(3),
    topic.largestGap === null ? '-' : humanSeconds(topic.largestGap),
    topic.stampLag === null ? '-' : humanSeconds(topic.stampLag.median),
    topic.picture ? `${topic.picture.width}x${topic.picture.height} ${topic.picture.format}` : '',
  ]);
  const heading = [
    'TOPIC',
    'TYPE',
    'ENCODING',
    'COUNT',
    'HZ',
    'FIRST',
    'LAST',
    'LARGEST GAP',
    'STAMP LAG',
    'PICTURE',
  ];
  const notes = topics.flatMap((topic) => [
    ...(topic.refused ? [`cannot be converted: ${topic.refused}`] : []),
    ...(topic.stampFaults > 0
      ? [`${topic.topic}: ${topic.stampFaults} stamps are zero or run backwards`]
      : []),
  ]);
  return [
    inspection.name,
    `  ${inspection.container}, ${humanBytes(inspection.bytes)}, ${inspection.messages} messages, ` +
      `${start === null ? 'empty' : `${humanSeconds(seconds)} from ${start}`}` +
      (inspection.writtenBy === '' ? '' : `, written by ${inspection.writtenBy}`),
    '',
    ...table([heading, ...rows], [3, 4, 5, 6, 7, 8]),
    ...(notes.length > 0 ? ['', ...notes] : []),
    ...losses.map((loss) => `lost: ${loss.what}`),
    ...metadata.map(({ name, entries }) => `metadata ${name}: ${JSON.stringify(entries)}`),
  ];
}
