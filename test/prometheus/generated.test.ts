import { readFileSync } from 'node:fs';
import path from 'node:path';
import test from 'ava';
import { generatedFiles } from '../../deploy/generated-files.ts';

const root = path.resolve(import.meta.dirname, '../../..');

for (const [file, text] of generatedFiles(root)) {
  test(`${file} is what the code makes of it (npm run generate)`, (t) => {
    t.is(readFileSync(path.join(root, file), 'utf8'), text);
  });
}
