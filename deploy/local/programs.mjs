import { accessSync, constants, readFileSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { SetupError, run, say } from './steps.mjs';

/**
 * The programs beside Node that the product or its tests run. `names` are tried in order; `accepts` looks at one that
 * was found and answers what is wrong with it, or nothing. `packages` are tried in order by apt.
 */
const programs = {
  redis: {
    names: ['redis-server', 'valkey-server'],
    what: 'Redis 6.2 or newer',
    packages: ['redis-server', 'valkey-server'],
    elsewhere: { brew: 'redis', dnf: 'valkey', pacman: 'valkey', apk: 'redis' },
    accepts: async (path) => {
      const text = await run(path, ['--version']);
      const version = /v=(\d+)\.(\d+)/.exec(text);
      if (!version) return `${path} does not tell its version`;
      const [major, minor] = [Number(version[1]), Number(version[2])];
      return major > 6 || (major === 6 && minor >= 2) ? undefined : `${path} is version ${major}.${minor}`;
    },
  },
  ffmpeg: {
    names: ['ffmpeg'],
    what: 'ffmpeg with the libx264 encoder',
    packages: ['ffmpeg'],
    elsewhere: { brew: 'ffmpeg', dnf: 'ffmpeg', pacman: 'ffmpeg', apk: 'ffmpeg' },
    accepts: async (path) => {
      const text = await run(path, ['-hide_banner', '-encoders']);
      return /\blibx264\b/.test(text) ? undefined : `${path} was built without libx264`;
    },
  },
  promtool: {
    names: ['promtool'],
    what: 'promtool',
    packages: ['prometheus'],
    elsewhere: { brew: 'prometheus', pacman: 'prometheus' },
    accepts: async () => undefined,
  },
  chromium: {
    names: ['chromium', 'chromium-browser', 'google-chrome'],
    what: 'Chromium',
    packages: ['chromium'],
    elsewhere: { dnf: 'chromium', pacman: 'chromium', apk: 'chromium' },
    accepts: async () => undefined,
  },
  curl: {
    names: ['curl'],
    what: 'curl',
    packages: ['curl'],
    elsewhere: { brew: 'curl', dnf: 'curl', pacman: 'curl', apk: 'curl' },
    accepts: async () => undefined,
  },
  pip: {
    names: ['pip3', 'pip'],
    what: 'pip, which fetches the S3 server of the tests',
    packages: ['python3-pip'],
    elsewhere: { brew: 'python', dnf: 'python3-pip', pacman: 'python-pip', apk: 'py3-pip' },
    accepts: async () => undefined,
  },
};

/** Absolute path of a program in PATH, or undefined. */
export function findProgram(name) {
  for (const folder of (process.env.PATH || '').split(delimiter)) {
    const path = join(folder, name);
    try {
      if (folder === '' || !statSync(path).isFile()) continue;
      accessSync(path, constants.X_OK);
      return path;
    } catch (error) {
      if (!['ENOENT', 'ENOTDIR', 'EACCES', 'ELOOP'].includes(error.code)) throw error;
    }
  }
  return undefined;
}

/**
 * Sees to every program of `required` and `optional` (keys of the table above): takes what PATH offers, else installs
 * it on Debian and Ubuntu as root. Resolves with a map from key to absolute path; an optional program may be absent from
 * it. Throws one `SetupError` that names every required program that is missing and the command that installs it here.
 */
export async function ensurePrograms({ required, optional = [] }) {
  let { found, faults } = await look([...required, ...optional]);
  if (faults.size > 0 && canUseApt()) {
    await aptInstall([...faults.keys()]);
    ({ found, faults } = await look([...required, ...optional]));
  }
  const missing = required.filter((key) => faults.has(key));
  if (missing.length > 0) throw new SetupError(sentence(missing, faults));
  for (const key of faults.keys()) {
    say(`${programs[key].what} is not there (${howToInstall([key])}): the tests that need it are skipped.`);
  }
  return found;
}

async function look(keys) {
  const found = new Map();
  const faults = new Map();
  for (const key of keys) {
    const program = programs[key];
    const reasons = [];
    for (const name of program.names) {
      const path = findProgram(name);
      const fault = path === undefined ? undefined : await program.accepts(path);
      if (fault) reasons.push(fault);
      if (path === undefined || fault) continue;
      found.set(key, path);
      break;
    }
    if (!found.has(key)) faults.set(key, reasons.join('; ') || 'not in PATH');
  }
  return { found, faults };
}

function canUseApt() {
  return (
    process.getuid !== undefined &&
    process.getuid() === 0 &&
    systemFamily() === 'apt' &&
    findProgram('apt-get') !== undefined
  );
}

async function aptInstall(keys) {
  const environment = { DEBIAN_FRONTEND: 'noninteractive' };
  const install = (packages) =>
    run(
      'apt-get',
      ['install', '-y', '-q', '--no-install-recommends', '-o', 'DPkg::Lock::Timeout=300', ...packages],
      { env: environment },
    );
  let listsAreFresh = false;
  for (const key of keys) {
    const refusals = [];
    for (const name of programs[key].packages) {
      say(`installing ${programs[key].what} with apt-get (package ${name}) …`);
      try {
        await install([name]).catch(async (error) => {
          if (listsAreFresh) throw error;
          listsAreFresh = true;
          await run('apt-get', ['update', '-q', '-o', 'DPkg::Lock::Timeout=300'], { env: environment });
          return install([name]);
        });
        refusals.length = 0;
        break;
      } catch (error) {
        refusals.push(error.message);
      }
    }
    for (const refusal of refusals) say(`that did not work: ${refusal}`);
  }
}

function sentence(missing, faults) {
  const wants = missing.map((key) => `${programs[key].what} (${faults.get(key)})`).join(' and ');
  const compose = missing.includes('redis')
    ? '; for Redis alone, `docker compose up -d redis` and REDIS_URL=redis://127.0.0.1:6379 do as well'
    : '';
  return `Missing: ${wants} — ${howToInstall(missing)}${compose}.`;
}

function howToInstall(keys) {
  const family = systemFamily();
  if (family === 'apt') {
    return `install with: sudo apt-get install ${keys.map((key) => programs[key].packages[0]).join(' ')}`;
  }
  const names = keys.map((key) => programs[key].elsewhere[family]);
  if (family !== undefined && names.every((name) => name !== undefined)) {
    const verb = { brew: 'brew install', dnf: 'sudo dnf install', pacman: 'sudo pacman -S', apk: 'apk add' };
    return `install with: ${verb[family]} ${names.join(' ')}`;
  }
  return 'install it with the package manager of this system';
}

function systemFamily() {
  if (process.platform === 'darwin') return 'brew';
  if (process.platform !== 'linux') return undefined;
  let release;
  try {
    release = readFileSync('/etc/os-release', 'utf8');
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
    return undefined;
  }
  const ids = [...release.matchAll(/^ID(?:_LIKE)?="?([^"\n]*)"?$/gm)].flatMap((match) => match[1].split(' '));
  const families = {
    debian: 'apt',
    ubuntu: 'apt',
    fedora: 'dnf',
    rhel: 'dnf',
    arch: 'pacman',
    alpine: 'apk',
  };
  return ids.map((id) => families[id]).find((family) => family !== undefined);
}
