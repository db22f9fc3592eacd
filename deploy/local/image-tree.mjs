import './node-version.mjs';
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, ensureDependencies } from './dependencies.mjs';
import { SetupError, fail, projectRoot, run, say } from './steps.mjs';

/** What the image holds below /app beside its packages, as `deploy/Dockerfile` copies it. */
export const imageFiles = ['dist/src', 'package.json', 'LICENSE', 'README.md', 'CHANGELOG.md'];

/** What of the production packages it leaves out. */
export const notInImage = ['node_modules/typescript', 'node_modules/@typescript'];

/**
 * Assembles the file tree of the image in `folder`, which is empty or absent: production packages from the lock file, the
 * compiled program (built by the caller), nothing else.
 */
export async function assembleImageTree(folder) {
  mkdirSync(folder, { recursive: true });
  if (readdirSync(folder).length > 0) throw new SetupError(`${folder} is expected to be empty.`);
  for (const name of ['package.json', 'package-lock.json', '.npmrc']) {
    cpSync(join(projectRoot, name), join(folder, name));
  }
  await run('npm', ['ci', '--omit=dev', '--prefer-offline', '--no-audit', '--no-fund'], { cwd: folder });
  for (const name of ['package-lock.json', '.npmrc', ...notInImage]) {
    rmSync(join(folder, name), { recursive: true });
  }
  for (const name of imageFiles) {
    if (!existsSync(join(projectRoot, name)))
      throw new SetupError(`${name} is not there: run npm run build first.`);
    cpSync(join(projectRoot, name), join(folder, name), { recursive: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const folder = process.argv[2];
  if (folder === undefined) fail(new SetupError('usage: node deploy/local/image-tree.mjs FOLDER'));
  else {
    ensureDependencies()
      .then(build)
      .then(() => assembleImageTree(resolve(folder)))
      .then(() => say(`assembled in ${folder}: node ${join(folder, 'dist', 'src', 'cli.js')} start`), fail);
  }
}
