import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { Registry } from 'prom-client';
import { findEpisode, reportEpisode } from '../conversion/report-episode.ts';
import { createMetrics } from '../metrics/index.ts';
import { withReleasers } from '../releasers.ts';
import { openStorage } from '../storage/open.ts';
import { type CliContext, printJson, printLines, toUrl, wholeNumber } from './context.ts';
import { sourceSettings } from './settings.ts';

type Options = {
  readonly episode: number;
  readonly pictures: number;
  readonly out?: string;
  readonly json?: boolean;
};

/** A manifest's location: the dataset, and the key of the recording. */
const manifestUrl = /^(.*)\/\.roboflow\/episodes\/([A-Za-z0-9_-]+)\.json$/;

/** `roboflow report DATASET|MANIFEST`: an HTML page of one episode. */
export function reportCommand(context: CliContext): Command {
  return new Command('report')
    .description('make an HTML page of an episode: frames, curves, alignment')
    .argument(
      '<dataset|manifest>',
      'folder or URL of the dataset, or of a manifest under its .roboflow/episodes/',
    )
    .option('-e, --episode <number>', 'which episode, from 0', wholeNumber(0, Number.MAX_SAFE_INTEGER), 0)
    .option('--pictures <number>', 'pictures a camera', wholeNumber(1, 200), 12)
    .option(
      '-o, --out <file>',
      'where to write the page; - for standard output (default: episode-<number>.html)',
    )
    .option('--json', 'machine-readable output: {path, key, episode}')
    .addHelpText(
      'after',
      '\nExamples:\n  $ roboflow report demo/dataset\n  $ roboflow report s3://datasets/bottles --episode 17 --out 17.html',
    )
    .action((location: string, options: Options) => report(location, options, context));
}

async function report(location: string, options: Options, context: CliContext): Promise<void> {
  const { signal } = context;
  const url = toUrl(location);
  const manifest = manifestUrl.exec(url);
  const metrics = createMetrics(new Registry()).storage;
  const storage = openStorage(manifest?.[1] ?? url, { ...sourceSettings(), metrics, role: 'source' });
  await withReleasers(async (release) => {
    const scratch = await mkdtemp(join(tmpdir(), 'roboflow-'));
    release(() => rm(scratch, { recursive: true, force: true }));
    const at = manifest?.[2]
      ? { key: manifest[2], episode: options.episode }
      : await findEpisode(storage, options.episode, signal);
    const page = await reportEpisode({ storage, ...at, pictures: options.pictures, scratch, signal });
    if (options.out === '-') {
      context.out.write(page);
      return;
    }
    const path = resolve(options.out ?? `episode-${options.episode}.html`);
    await writeFile(path, page);
    if (options.json) printJson(context, { path, ...at });
    else printLines(context, path);
  });
}
