import stringWidth from 'string-width';

/**
 * Lays rows out in columns; the first row is the heading. Numbers (right-aligned columns) are named by index; `paint`
 * may colour a padded cell.
 */
export function table(
  rows: readonly (readonly string[])[],
  right: readonly number[] = [],
  paint: (padded: string, column: number, cell: string) => string = (padded) => padded,
): string[] {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, stringWidth(cell))));
  const rightAligned = new Set(right);
  return rows.map((row) =>
    row
      .map((cell, i) => {
        const space = ' '.repeat((widths[i] ?? 0) - stringWidth(cell));
        return paint(rightAligned.has(i) ? space + cell : cell + space, i, cell);
      })
      .join('  ')
      .trimEnd(),
  );
}
