/**
 * The storage tests against versitygw, a full S3 server over a folder, beside SeaweedFS: contract, faults, sources and
 * a conversion from bucket to bucket. Needs a build (`npm run build`); takes versitygw from `VERSITYGW`, `PATH` or
 * `~/go/bin`, else builds it with Go. Arguments go to AVA. `npm run test:conformance -- storage` runs this.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';

const PACKAGE = 'github.com/versity/versitygw/cmd/versitygw@v1.8.0';
const root = join(import.meta.dirname, '../..');

function findVersitygw() {
  const folders = [...(process.env.PATH ?? '').split(delimiter), join(homedir(), 'go/bin')];
  const places = [
    process.env.VERSITYGW,
    ...folders.filter(Boolean).map((folder) => join(folder, 'versitygw')),
  ];
  return places.find((path) => path && existsSync(path));
}

if (!findVersitygw()) {
  console.error(`building ${PACKAGE} (some minutes) …`);
  try {
    execFileSync('go', ['install', PACKAGE], {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, GOBIN: join(homedir(), 'go/bin') },
    });
  } catch (error) {
    console.error(`expected versitygw, or Go 1.24 or newer to build ${PACKAGE}: ${error.message}`);
    process.exit(1);
  }
}
const ava = join(root, 'node_modules/ava/entrypoints/cli.mjs');
const tests = ['s3', 's3-faults', 's3-sources', 's3-conversion'].map(
  (name) => `dist/test/storage/${name}.test.js`,
);
const { status } = spawnSync(process.execPath, [ava, ...process.argv.slice(2), ...tests], {
  cwd: root,
  stdio: 'inherit',
  env: { ...process.env, VERSITYGW: findVersitygw() },
});
// who reads TAP finds the verdict in its lines
process.exit(process.argv.includes('--tap') ? 0 : (status ?? 1));
