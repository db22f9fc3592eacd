import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

/**
 * Makes one file of the commands and the packages they use, `dist/src/bundled/cli.cjs`, and a list of the licences of
 * what is in it. Runs after the compiler: `npm run build`. Packages that bring files of their own or that few commands
 * need stay packages.
 */
const root = fileURLToPath(new URL('../..', import.meta.url));
const out = join(root, 'dist', 'src', 'bundled');

const PACKAGES = [
  'sharp',
  'node-sqlite3-wasm',
  '@foxglove/wasm-bz2',
  '@foxglove/wasm-zstd',
  '@aws-sdk/*',
  'bullmq',
  'bullmq-otel',
  'ioredis',
  'pino-pretty',
  'protobufjs',
  '@opentelemetry/exporter*',
  '@opentelemetry/resources',
  '@opentelemetry/sdk*',
];

/** Parts of packages that no command uses; this one loads Node's HTTP. */
const UNUSED = /\/prom-client\/lib\/pushgateway\.js$/;

const { outputFiles, metafile } = await build({
  entryPoints: [join(root, 'dist', 'src', 'cli', 'program.js')],
  absWorkingDir: root,
  outdir: out,
  write: false,
  bundle: true,
  platform: 'node',
  target: 'node20.19',
  format: 'cjs',
  // A script that is not loaded as a module has nobody to answer `import()`; marked templates cannot be written in ASCII,
  // which is read and kept in half the time and memory.
  supported: { 'dynamic-import': false, 'template-literal': false },
  define: { 'import.meta.url': 'MODULE_URL' },
  banner: { js: `const MODULE_URL = require('node:url').pathToFileURL(__filename).href;` },
  minifyWhitespace: true,
  legalComments: 'none',
  external: PACKAGES,
  plugins: [
    {
      name: 'unused',
      setup(building) {
        building.onLoad({ filter: UNUSED }, () => ({ contents: 'module.exports = undefined;' }));
      },
    },
  ],
  metafile: true,
  logLevel: 'warning',
});
const [{ text }] = outputFiles;
if (/[\u0080-\uffff]/.test(text)) throw new Error('the bundle holds characters beyond ASCII');
const name = createHash('sha256').update(text).digest('hex');

await mkdir(out, { recursive: true });
await writeFile(join(out, 'LICENSES.txt'), await licences(Object.keys(metafile.inputs)));
// Somebody may be starting a command at this moment.
const whole = join(out, `cli.cjs.${process.pid}`);
await writeFile(whole, `// ${name}\n${text}`);
await rename(whole, join(out, 'cli.cjs'));
for (const file of await readdir(out)) {
  const stale = file.endsWith('.cache') && !file.startsWith(`cli.cjs.${name.slice(0, 16)}.`);
  if (stale) await rm(join(out, file), { force: true });
}

/** Name, licence and its text of every package that a file of the bundle came from. */
async function licences(paths) {
  const folders = new Set(
    paths.flatMap((path) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0] ?? []),
  );
  const parts = [...folders]
    .toSorted((a, b) => a.localeCompare(b))
    .map(async (folder) => {
      const { name, version, license } = JSON.parse(
        await readFile(join(root, folder, 'package.json'), 'utf8'),
      );
      const files = (await readdir(join(root, folder))).filter((file) =>
        /^(licen[cs]e|notice)\b/i.test(file),
      );
      const texts = await Promise.all(files.map((file) => readFile(join(root, folder, file), 'utf8')));
      return [`${name} ${version} (${license})`, ...texts.map((each) => each.trim())].join('\n\n');
    });
  return `${(await Promise.all(parts)).join(`\n\n${'-'.repeat(80)}\n\n`)}\n`;
}
