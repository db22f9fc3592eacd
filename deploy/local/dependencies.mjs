import { chmodSync, existsSync, lstatSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';
import { SetupError, projectRoot, run, say } from './steps.mjs';

/** The npm packages and the compiled program. */

/** Runs `npm ci` when `node_modules` is missing or holds other versions than the lock file; says so. */
export async function ensureDependencies() {
  const reason = whyStale();
  if (reason === undefined) return;
  const folder = join(projectRoot, 'node_modules');
  if (existsSync(folder) && lstatSync(folder).isSymbolicLink()) {
    say(`node_modules is a link and ${reason}: install where it points to.`);
    return;
  }
  say(`installing the dependencies with npm ci (${reason}) …`);
  // Which Node will do is decided by node-version.mjs; tools of the tests may wish for a newer minor version.
  const args = ['ci', '--include=dev', '--engine-strict=false', '--no-audit', '--no-fund'];
  const npm = process.env.npm_execpath;
  try {
    if (npm && /\.c?js$/.test(npm)) await run(process.execPath, [npm, ...args]);
    else await run('npm', args);
  } catch (error) {
    throw new SetupError(`The dependencies could not be installed: ${error.message}`, { cause: error });
  }
}

/** npm leaves a lock file of what it installed inside `node_modules`; it must agree with ours. */
function whyStale() {
  const installedLock = join(projectRoot, 'node_modules', '.package-lock.json');
  if (!existsSync(installedLock)) return 'there are none yet';
  const wanted = JSON.parse(readFileSync(join(projectRoot, 'package-lock.json'), 'utf8')).packages;
  const installed = JSON.parse(readFileSync(installedLock, 'utf8')).packages;
  for (const [path, entry] of Object.entries(wanted)) {
    if (path === '') continue;
    const there = installed[path];
    if (there === undefined) {
      if (!entry.optional && !entry.devOptional) return `${path} is not there`;
    } else if (there.version !== entry.version) {
      return `${path} is ${there.version}, the lock file says ${entry.version}`;
    }
  }
  return undefined;
}

/** Compiles `src`, `test` and `deploy` into `dist`, removes what is left of deleted files there, and bundles the program. */
export async function build() {
  const tsc = join(projectRoot, 'node_modules', 'typescript', 'bin', 'tsc');
  try {
    await run(process.execPath, [tsc, '-p', join(projectRoot, 'tsconfig.json')]);
  } catch (error) {
    throw new SetupError(`The build failed: ${error.message}`, { cause: error });
  }
  const dist = join(projectRoot, 'dist');
  for (const path of filesBelow(dist)) {
    const source = relative(dist, path).replace(/\.(js|js\.map|d\.ts)$/, '.ts');
    if (source.endsWith('.ts') && !existsSync(join(projectRoot, source))) rmSync(path);
  }
  try {
    await run(process.execPath, [join(projectRoot, 'deploy', 'local', 'bundle.mjs')]);
  } catch (error) {
    throw new SetupError(`The program could not be bundled: ${error.message}`, { cause: error });
  }
  const program = join(dist, 'src', 'cli.js');
  if (existsSync(program)) chmodSync(program, 0o755);
}

function filesBelow(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    return entry.isDirectory() ? filesBelow(path) : [path];
  });
}
