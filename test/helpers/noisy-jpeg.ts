import sharp from 'sharp';

/** A JPEG like a camera's: a moving gradient with sensor noise, which costs an encoder what real pictures do. */
export async function noisyJpeg(frame: number, size: { width: number; height: number }): Promise<Uint8Array> {
  const { width, height } = size;
  const pixels = new Uint8Array(width * height * 3);
  let state = 0x9e3779b9 ^ (frame + 1);
  for (let at = 0; at < pixels.length; at++) {
    // xorshift32
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    const x = Math.floor(at / 3) % width;
    const y = Math.floor(at / 3 / width);
    pixels[at] = ((x + frame * 4 + (at % 3) * 40) & 127) + ((y + frame) & 63) + ((state >>> 28) & 15);
  }
  return sharp(pixels, { raw: { width, height, channels: 3 } })
    .jpeg({ quality: 85 })
    .toBuffer();
}
