import { readFileSync } from 'node:fs';

type Manifest = { readonly version: string; readonly gitHead?: string };

const manifest = readManifest();

/** Version of this product, from package.json: part of what makes two conversions the same. */
export const version: string = manifest.version;

/** Commit this was built from: `gitHead` of package.json, which npm and the image's build write; else `unknown`. */
export const revision: string = manifest.gitHead ?? 'unknown';

function readManifest(): Manifest {
  // Two levels up from src/conversion in the sources, three from dist/src/conversion.
  for (const up of ['../../package.json', '../../../package.json']) {
    try {
      return JSON.parse(readFileSync(new URL(up, import.meta.url), 'utf8')) as Manifest;
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== 'ENOENT') throw thrown;
    }
  }
  throw new Error('package.json is missing beside the program');
}
