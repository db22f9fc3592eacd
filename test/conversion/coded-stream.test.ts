import test from 'ava';
import { CodedStream } from '../../src/conversion/coded-stream.ts';
import { CanceledError } from '../../src/errors.ts';
import { codedPictures } from '../helpers/coded-pictures.ts';

test('a decoder that is stopped by the signal says so', async (t) => {
  const [width, height] = [320, 240];
  const raw = Buffer.alloc(width * height * 3, 90);
  const [data = Buffer.alloc(0)] = codedPictures('h264', raw, [
    '-f',
    'rawvideo',
    '-pix_fmt',
    'rgb24',
    '-s',
    `${width}x${height}`,
  ]);
  const control = new AbortController();
  const stream = new CodedStream('topic /camera', control.signal);
  const work = async () => {
    const picture = { format: 'h264', width, height, data, keyframe: true } as const;
    for (let i = 0; i < 1e6; i += 1) await stream.decode(picture);
  };
  setTimeout(() => control.abort(new CanceledError('shutdown')), 300);
  const error = await t.throwsAsync(work(), { instanceOf: CanceledError });
  t.is(error.reason, 'shutdown');
});
