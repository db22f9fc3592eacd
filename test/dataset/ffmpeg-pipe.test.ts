import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { FfmpegPipe } from '../../src/dataset/ffmpeg-pipe.ts';
import { CanceledError, EncodeError } from '../../src/errors.ts';
import { tempFolder } from './build.ts';

const MANY = 1000;
const PART = new Uint8Array(3 << 20);

async function writeMany(pipe: FfmpegPipe): Promise<void> {
  for (let i = 0; i < MANY; i += 1) await pipe.write(PART);
}

test('a program that ends while it is written to is an EncodeError with its own words', async (t) => {
  const script = join(await tempFolder(t), 'ffmpeg');
  const lines = [
    '#!/bin/bash',
    'case "$*" in *pipe:0*) ;; *) exec ffmpeg "$@" ;; esac',
    'head -c 100000 > /dev/null',
    'exec 0<&-',
    'sleep 0.3',
    'echo "[error] no space left on device" >&2',
    'exit 1',
  ];
  await writeFile(script, lines.join('\n'));
  await chmod(script, 0o755);
  const { signal } = new AbortController();
  const options = { signal, ffmpeg: script, output: false };
  const pipe = await FfmpegPipe.start('camera', ['-i', 'pipe:0'], options);
  const error = await t.throwsAsync(writeMany(pipe), { instanceOf: EncodeError });
  t.is(error.message, 'camera ended with code 1: [error] no space left on device');
});

test('a program that is stopped by the signal says so once it has ended', async (t) => {
  const control = new AbortController();
  const args = ['-f', 'rawvideo', '-s', '1280x720', '-i', 'pipe:0', '-f', 'null', '-'];
  const pipe = await FfmpegPipe.start('camera', args, { signal: control.signal, output: false });
  const written = writeMany(pipe);
  setTimeout(() => control.abort(new CanceledError('shutdown')), 100);
  const error = await t.throwsAsync(written, { instanceOf: CanceledError });
  t.is(error.reason, 'shutdown');
  t.is(pipe.child.signalCode, 'SIGKILL');
});
