import { readFileSync } from 'node:fs';

/** Version of this product, from package.json: part of what makes two conversions the same. */
export const version: string = readVersion();

function readVersion(): string {
  // Two levels up from src/conversion in the sources, three from dist/src/conversion.
  for (const up of ['../../package.json', '../../../package.json']) {
    try {
      const found = JSON.parse(readFileSync(new URL(up, import.meta.url), 'utf8')) as { version: string };
      return found.version;
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== 'ENOENT') throw thrown;
    }
  }
  throw new Error('package.json is missing beside the program');
}
