import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Registry } from 'prom-client';
import { findEpisode, reportEpisode } from '../conversion/report-episode.ts';
import { createMetrics } from '../metrics/index.ts';
import { withReleasers } from '../releasers.ts';
import { localError } from '../storage/local-errors.ts';
import { openStorage } from '../storage/open.ts';
import { type CliContext, printJson, printLines, toUrl } from './context.ts';
import { sourceSettings } from './settings.ts';

type Options = {
  readonly episode: number;
  readonly pictures: number;
  readonly out?: string;
  readonly json?: boolean;
};

/** A manifest's location: the dataset, and the key of the recording. */
const manifestUrl = /^(.*)\/\.roboflow\/episodes\/([A-Za-z0-9_-]+)\.json$/;

/** Writes the HTML page of one episode. */
export async function report(location: string, options: Options, context: CliContext): Promise<void> {
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
    await writeFile(path, page).catch((thrown: unknown) => {
      throw localError(thrown, 'write the page', path);
    });
    if (options.json) printJson(context, { path, ...at });
    else printLines(context, path);
  });
}
