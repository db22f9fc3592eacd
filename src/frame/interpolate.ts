import { InputError } from '../errors.ts';

/** Value between two vectors: a + share·(b - a). `share` in [0, 1]. */
export function linear(a: Float64Array, b: Float64Array, share: number): Float64Array {
  const out = new Float64Array(a.length);
  for (let i = 0; i < a.length; i++) {
    const from = a[i] ?? 0;
    out[i] = from + share * ((b[i] ?? 0) - from);
  }
  return out;
}

/**
 * Value between two quaternions (x, y, z, w) along the shorter great arc, or between two poses (position, quaternion)
 * with a linear position. Formula: Shoemake 1985, sin((1-t)Ω)/sin Ω · a + sin(tΩ)/sin Ω · b; the result has length 1.
 * Throws `InputError` for a quaternion without direction.
 */
export function slerp(a: Float64Array, b: Float64Array, share: number): Float64Array {
  const at = a.length - 4;
  const out = linear(a, b, share);
  const from = unit(a, at);
  const to = unit(b, at);
  let cosine = from.reduce((sum, value, i) => sum + value * (to[i] ?? 0), 0);
  const sign = cosine < 0 ? -1 : 1;
  cosine = Math.min(1, cosine * sign);
  const angle = Math.acos(cosine);
  // Below this angle sin(Ω) loses its digits and the arc is a line.
  const [fa, fb] =
    angle < 1e-6
      ? [1 - share, share]
      : [Math.sin((1 - share) * angle) / Math.sin(angle), Math.sin(share * angle) / Math.sin(angle)];
  const mixed = Float64Array.from(from, (value, i) => fa * value + fb * sign * (to[i] ?? 0));
  out.set(unit(mixed, 0), at);
  return out;
}

function unit(values: Float64Array, at: number): Float64Array {
  const part = values.subarray(at, at + 4);
  const length = Math.hypot(...part);
  if (length < 1e-9) {
    throw new InputError(`slerp needs quaternions of length 1, found (${part.join(', ')})`);
  }
  return part.map((value) => value / length);
}
