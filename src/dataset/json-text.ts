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

/**
 * A list of numbers, or of lists of them, as Python writes floats: whole ones with a decimal. Readers that take types
 * from the text find the same one in every line.
 */
export function floatsText(values: unknown): string {
  if (Array.isArray(values)) return `[${values.map(floatsText).join(',')}]`;
  const text = JSON.stringify(values);
  return /[.e]/.test(text) ? text : `${text}.0`;
}
