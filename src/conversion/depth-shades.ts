import sharp, { type Sharp } from 'sharp';

/** A depth picture (TIFF or 16-bit PNG) in shades of grey, from its nearest to its farthest pixel. */
export async function depthShades(depth: Uint8Array): Promise<Sharp> {
  const { data, info } = await sharp(depth).raw({ depth: 'float' }).toBuffer({ resolveWithObject: true });
  const values = new Float32Array(Uint8Array.from(data).buffer);
  const step = values.length / (info.width * info.height);
  let [nearest, farthest] = [Infinity, -Infinity];
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    nearest = Math.min(nearest, value);
    farthest = Math.max(farthest, value);
  }
  const scale = 255 / (farthest - nearest || 1);
  const grey = Uint8Array.from({ length: info.width * info.height }, (_, i) => {
    const value = values[i * step] ?? 0;
    return Number.isFinite(value) ? (value - nearest) * scale : 0;
  });
  return sharp(grey, { raw: { width: info.width, height: info.height, channels: 1 } });
}
