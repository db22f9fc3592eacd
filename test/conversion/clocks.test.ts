import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { parseDatasetConfig } from '../../src/conversion/config.ts';
import { inspectRecording } from '../../src/conversion/inspect.ts';
import { suggestConfig } from '../../src/conversion/suggest.ts';
import { openRecording } from '../../src/recording/open.ts';
import { bench, temporaryFolder } from '../helpers/conversion.ts';
import { demonstration, type DemonstrationOptions, SECOND, START } from '../helpers/demonstration.ts';
import { type BuiltChannel, memoryFiles } from '../helpers/recordings.ts';

/** Converts a recording with the config that is suggested for it. */
async function convertAsSuggested(t: ExecutionContext, options: DemonstrationOptions) {
  const bytes = await demonstration({ task: null, ...options });
  const recording = await openRecording(memoryFiles(bytes));
  const source = { name: 'take.mcap', recording, info: { size: bytes.length } };
  const { facts, inspection } = await inspectRecording(source, new AbortController().signal);
  const config = parseDatasetConfig(suggestConfig(facts));
  const path = join(await temporaryFolder(t), 'take.mcap');
  await writeFile(path, bytes);
  const { manifest } = await (await bench(t)).convert(path, config);
  return { config, manifest, inspection };
}

test('a simulation whose clock begins at zero keeps its first samples', async (t) => {
  const { config, manifest, inspection } = await convertAsSuggested(t, { start: 0n });
  t.is(config.clock, 'header');
  t.true(inspection.topics.every(({ stampFaults }) => stampFaults === 0));
  t.is(manifest.episodes[0]?.startTime, '0');
  t.is(manifest.alignment.rows, 60);
  t.true(manifest.alignment.sources.every(({ late, dropped }) => late === 0 && dropped === 0));
});

test('a recorder whose clock is set back on the way does not mix what was before with what came after', async (t) => {
  const back = (2n * SECOND) / 5n;
  const { config, manifest } = await convertAsSuggested(t, {
    change: (channels) =>
      channels.map((channel) => ({
        ...channel,
        messages: channel.messages.map((message) =>
          message.log > START + SECOND ? { ...message, log: message.log - back } : message,
        ),
      })),
  });
  // Stamps seem to run backwards where both are read in order of log time, by less than what is put in order.
  t.is(config.clock, 'header');
  t.is(config.fps, 30, 'the rate of the stamps, not that of the log');
  t.is(manifest.alignment.rows, 60);
  t.true(manifest.alignment.sources.every(({ late, held }) => late === 0 && held === 0));
});

test('publish times that the recorder never filled in are refused', async (t) => {
  const path = join(await temporaryFolder(t), 'take.mcap');
  const unset = (channels: BuiltChannel[]) =>
    channels.map((channel) => ({
      ...channel,
      messages: channel.messages.map((message) => ({ ...message, publish: 0n })),
    }));
  await writeFile(path, await demonstration({ change: unset }));
  const features = { state: { topic: '/joint_states', field: 'position', names: 'all' } };
  await t.throwsAsync((await bench(t)).convert(path, { fps: 30, clock: 'publish', features }), {
    name: 'InputError',
    message: /\/joint_states, clock publish\): all 200 time stamps are missing or zero/,
  });
});
