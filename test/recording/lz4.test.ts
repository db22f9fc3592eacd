import test from 'ava';
import { InputError } from '../../src/errors.ts';
import { decompress } from '../../src/recording/compression.ts';
import { expandCutLz4, expandLz4, xxh32 } from '../../src/recording/lz4.ts';
import { lz4Frame } from '../helpers/lz4.ts';

/** Written by `lz4 -9 -BD -B4 --content-size -BX`: linked blocks, checksums of blocks, content and size. */
const GOLDEN =
  'BCJNGHxAWAQAAAAAAAD5DwEAAJBqb2ludCAwIGEFAFJyYWQ7IBIAEDESABgxEgAQMhIAGDQSABAzEgAYORIAETQ2ABg2EwAQNRMAKDI1EwAQNhMACRIAAYAALTE4gQAdMoEALTE5ggAdN4IALjI4ggAdMIIALjE0gwAOBAEdOIMAHTiCAC4xMAUBHzSDABEtMjiDAB43hgEdOYMAHjKDAB04gwAfNYcBES0xNoIAHTmCAB40hwENgQAPAwEADYAAHTR/AB45gwEeNgYCHTWAAB81AQERHTKBAC0xOYIAHTeCAB8yiAIAHjACAR80BwIRDokCHjiDAR4wBQEfNIMAES8yOAwDEC4xOQcCDoMADogCHzWHAREvMTYQBABQcmFkOyArDtFaAAAAAALOs2Q=';
const GOLDEN_TEXT = Array.from({ length: 60 }, (_, i) => `joint ${i % 7} at ${(i * i) % 31} rad; `).join('');

/** Text, noise and runs: literals, short and long matches, blocks that are stored. */
function sample(size: number): Uint8Array {
  let state = 7;
  return Uint8Array.from({ length: size }, (_, at) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    const part = Math.floor(at / 5000) % 3;
    return part === 0 ? (state >>> 16) & 0xff : part === 1 ? 65 + (at % 7) : at % 900 < 700 ? 1 : at & 0xff;
  });
}

test('a frame of the reference program with linked blocks and every checksum expands', (t) => {
  const frame = Buffer.from(GOLDEN, 'base64');
  t.is(new TextDecoder().decode(expandLz4(frame, GOLDEN_TEXT.length)), GOLDEN_TEXT);
});

test('frames of every size expand to what was compressed', (t) => {
  for (const size of [0, 1, 11, 12, 13, 64, 65_535, 65_536, 65_537, 200_000]) {
    const data = sample(size);
    t.deepEqual(expandLz4(lz4Frame(data), size), data, `${size} bytes`);
  }
});

test('the hash is xxHash32', (t) => {
  const hash = (text: string) => xxh32(new TextEncoder().encode(text));
  t.is(hash(''), 0x02cc5d05);
  t.is(hash('abc'), 0x32d153ff);
  t.is(hash('Nobody inspects the spammish repetition'), 0xe2293b2f);
});

test('a changed byte is found by the checksum, and a wrong size is refused', (t) => {
  const frame = Buffer.from(GOLDEN, 'base64');
  for (let at = 0; at < frame.byteLength; at++) {
    // the checksum of the block is not needed to be sure
    if (at >= frame.byteLength - 12 && at < frame.byteLength - 8) continue;
    const damaged = Uint8Array.from(frame);
    damaged[at] = (damaged[at] ?? 0) ^ 0x41;
    t.throws(() => expandLz4(damaged, GOLDEN_TEXT.length), { instanceOf: InputError }, `byte ${at}`);
  }
  for (const size of [GOLDEN_TEXT.length - 1, GOLDEN_TEXT.length + 1]) {
    t.throws(() => expandLz4(frame, size), { instanceOf: InputError });
  }
});

test('a frame that is cut is refused, and its whole blocks can be had', async (t) => {
  const data = sample(200_000);
  const frame = lz4Frame(data);
  for (const share of [0.1, 0.5, 0.9]) {
    const cut = frame.subarray(0, Math.floor(frame.byteLength * share));
    await t.throwsAsync(decompress('lz4', cut, data.byteLength, 'chunk at byte 8'), {
      instanceOf: InputError,
      message: /chunk at byte 8: its lz4 data is damaged \(an lz4 frame is cut off/,
    });
    const kept = expandCutLz4(cut, data.byteLength);
    t.is(kept.byteLength % 65_536, 0);
    t.deepEqual(kept, data.subarray(0, kept.byteLength));
    // a damaged frame spoils nothing for the next
    t.deepEqual(await decompress('lz4', frame, data.byteLength, 'chunk'), data);
  }
  t.is(expandCutLz4(frame.subarray(0, -4), data.byteLength).byteLength, data.byteLength);
});
