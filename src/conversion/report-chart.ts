import { markup, type Html } from './report-html.ts';

/** One curve: a value a row. */
export type Curve = { readonly key: string; readonly values: Float64Array };

const width = 320;
const height = 120;
const margin = { left: 44, right: 8, top: 8, bottom: 18 };
/** Columns of the plot; more rows than that are drawn as the range of each column, so that no peak is lost. */
const columns = width - margin.left - margin.right;

/** A small chart of one or two curves against time (s); `fps` rows are a second. */
export function chart(label: string, curves: readonly Curve[], fps: number): Html {
  const rows = Math.max(...curves.map(({ values }) => values.length));
  const { low, high } = rangeOf(curves);
  const y = (value: number) =>
    margin.top + ((high - value) / (high - low)) * (height - margin.top - margin.bottom);
  const x = (row: number) => margin.left + (rows < 2 ? 0 : (row / (rows - 1)) * columns);
  const bottom = height - margin.bottom;
  const paths = curves.map(
    ({ values }, i) => markup`<path class="${i === 0 ? 'a' : 'b'}" d="${pathOf(values, x, y)}" />`,
  );
  const about = `${label}: from ${shown(low)} to ${shown(high)} over ${shown((rows - 1) / fps)} s`;
  return markup`<figure>
    <svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${about}">
      <path class="axis" d="M${margin.left} ${margin.top}V${bottom}H${width - margin.right}" />
      <text x="${margin.left - 4}" y="${margin.top + 8}" text-anchor="end">${shown(high)}</text>
      <text x="${margin.left - 4}" y="${bottom}" text-anchor="end">${shown(low)}</text>
      <text x="${margin.left}" y="${height - 5}">0 s</text>
      <text x="${width - margin.right}" y="${height - 5}" text-anchor="end">${shown((rows - 1) / fps)} s</text>
      ${paths}
    </svg>
    <figcaption>${label}</figcaption>
  </figure>`;
}

/** Lowest and highest value over all curves, apart from each other also when nothing moves. */
function rangeOf(curves: readonly Curve[]): { low: number; high: number } {
  let low = Infinity;
  let high = -Infinity;
  for (const { values } of curves) {
    for (const value of values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  if (low < high) return { low, high };
  const room = Math.abs(low) * 0.01 || 1;
  return { low: low - room, high: high + room };
}

function pathOf(values: Float64Array, x: (row: number) => number, y: (value: number) => number): string {
  const step = values.length / columns;
  if (step <= 1.5) {
    return Array.from(values, (value, row) => `${row === 0 ? 'M' : 'L'}${point(x(row), y(value))}`).join('');
  }
  const parts: string[] = [];
  for (let column = 0; column < columns; column++) {
    const from = Math.floor(column * step);
    const part = values.subarray(from, Math.max(from + 1, Math.floor((column + 1) * step)));
    let low = Infinity;
    let high = -Infinity;
    for (const value of part) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    parts.push(`${column === 0 ? 'M' : 'L'}${point(x(from), y(low))}`);
    if (high > low) parts.push(`L${point(x(from), y(high))}`);
  }
  return parts.join('');
}

function point(x: number, y: number): string {
  return `${Number(x.toFixed(1))} ${Number(y.toFixed(1))}`;
}

/** A number with as many digits as help. */
export function shown(value: number): string {
  if (value === 0) return '0';
  const size = Math.abs(value);
  return size >= 1e5 || size < 1e-3 ? value.toExponential(1) : String(Number(value.toPrecision(4)));
}
