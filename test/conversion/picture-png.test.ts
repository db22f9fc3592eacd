import test from 'ava';
import { pngOf } from '../../src/conversion/picture-png.ts';
import { CanceledError, InputError } from '../../src/errors.ts';

const picture = { format: 'h264', width: 64, height: 64, keyframe: true } as const;

test("a key frame that does not decode is refused in the decoder's words", async (t) => {
  const { signal } = new AbortController();
  const work = pngOf({ ...picture, data: new Uint8Array(5000) }, signal);
  await t.throwsAsync(work, { instanceOf: InputError, message: /key frame in h264 does not decode: ./ });
});

test('a picture that is stopped by the signal ends in that alone', async (t) => {
  const control = new AbortController();
  const work = pngOf({ ...picture, data: new Uint8Array(50_000_000) }, control.signal);
  setTimeout(() => control.abort(new CanceledError('cancelled')), 100);
  await t.throwsAsync(work, { instanceOf: CanceledError });
});
