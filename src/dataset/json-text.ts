/** JSON as LeRobot writes it: 4 spaces, a final newline; throws on a number JSON cannot hold. */
export function jsonText(value: unknown): Uint8Array {
  const text = JSON.stringify(
    value,
    (key, each: unknown) => {
      if (typeof each === 'number' && !Number.isFinite(each)) {
        throw new Error(`JSON cannot hold ${each} (at "${key}")`);
      }
      return each;
    },
    4,
  );
  return new TextEncoder().encode(`${text}\n`);
}
