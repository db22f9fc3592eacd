/** Codes levels as RVL, behind width and height and a compressedDepth header with the parameters of inverse depth. */
export function rvlDepth(
  samples: Uint16Array,
  { width, height }: { width: number; height: number },
  [a, b]: readonly [number, number] = [0, 0],
): Buffer {
  const nibbles: number[] = [];
  const put = (value: number) => {
    for (let rest = value; ; rest >>>= 3) {
      nibbles.push((rest & 7) | (rest > 7 ? 8 : 0));
      if (rest <= 7) return;
    }
  };
  const runFrom = (from: number, zero: boolean) => {
    const end = samples.findIndex((sample, at) => at >= from && (sample === 0) !== zero);
    return end < 0 ? samples.length : end;
  };
  for (let at = 0, before = 0; at < samples.length;) {
    const start = runFrom(at, true);
    const end = runFrom(start, false);
    put(start - at);
    put(end - start);
    for (const sample of samples.subarray(start, end)) {
      const change = sample - before;
      put(change < 0 ? -2 * change - 1 : 2 * change);
      before = sample;
    }
    at = end;
  }
  while (nibbles.length % 8 !== 0) nibbles.push(0);
  const head = Buffer.alloc(20);
  head.writeFloatLE(a, 4);
  head.writeFloatLE(b, 8);
  head.writeUInt32LE(width, 12);
  head.writeUInt32LE(height, 16);
  const words = Buffer.from(nibbles.map((nibble) => nibble.toString(16)).join(''), 'hex').swap32();
  return Buffer.concat([head, words]);
}
