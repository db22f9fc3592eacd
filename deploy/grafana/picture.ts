import type { PanelSpec } from './panel.ts';
import type { EvaluatedDashboard, EvaluatedPanel, NamedSeries, Window } from './evaluate.ts';

const WIDTH = 1600;
const COLUMN = WIDTH / 24;
const COLOURS = ['#3274d9', '#e0752d', '#37872d', '#c4162a', '#8f3bb8', '#b8860b', '#0e7c86', '#6b6b6b'];
/** A legend longer than this is cut; it says by how much. */
const LEGEND_ENTRIES = 6;

/** A dashboard's panels with their series as one SVG, so that a person can look at a run without Grafana. */
export function drawDashboard({ title, rows }: EvaluatedDashboard, window: Window): string {
  const parts: string[] = [text(20, 34, title, 22, '#222', 'bold')];
  let y = 50;
  for (const row of rows) {
    y += 28;
    parts.push(text(20, y - 8, row.title, 15, '#555', 'bold'));
    let x = 0;
    let height = 0;
    for (const panel of row.panels) {
      const width = panel.panel.width * COLUMN;
      if (x + width > WIDTH + 1) {
        x = 0;
        y += height;
        height = 0;
      }
      const own = panel.panel.kind === 'stat' ? 100 : 230;
      parts.push(drawPanel(panel, window, { x: x + 4, y: y + 4, width: width - 8, height: own - 8 }));
      x += width;
      height = Math.max(height, own);
    }
    y += height;
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y + 20}" font-family="DejaVu Sans, Helvetica, Arial, sans-serif"><rect width="100%" height="100%" fill="#f4f5f5"/>${parts.join('')}</svg>`;
}

type Box = { readonly x: number; readonly y: number; readonly width: number; readonly height: number };

function drawPanel({ panel, series, faults }: EvaluatedPanel, window: Window, box: Box): string {
  const { x, y, width, height } = box;
  const frame = `<rect x="${x}" y="${y}" width="${width}" height="${height}" rx="3" fill="#fff" stroke="${faults.length > 0 ? '#c4162a' : '#d8d9da'}"/>`;
  const head = text(x + 10, y + 20, panel.title, 13, '#222', 'bold');
  const body =
    panel.kind === 'stat'
      ? text(x + 10, y + 64, shown(lastOf(series[0]), panel.unit), 28, '#3274d9', 'bold')
      : panel.kind === 'table'
        ? drawTable(series, panel.unit, box)
        : drawCurves(visible(panel.kind, series), panel.unit, window, box, panel.kind === 'stacked');
  const fault = faults.length > 0 ? text(x + 10, y + height - 8, 'no data', 12, '#c4162a', 'bold') : '';
  return frame + head + body + fault;
}

/** In a stack, series that are 0 all along would hide the one below them. */
function visible(kind: PanelSpec['kind'], series: readonly NamedSeries[]): readonly NamedSeries[] {
  if (kind !== 'stacked') return series;
  const moving = series.filter(({ points }) => points.some(([, value]) => value !== 0));
  return moving.length > 0 ? moving : series.slice(0, 1);
}

/** One line a series, in as many columns as there is room for; a label a line where a series is wider than that. */
function drawTable(series: readonly NamedSeries[], unit: string, { x, y, width, height }: Box): string {
  const rows = Math.floor((height - 34) / 17);
  const whole = series.map((one) => `${one.name}  →  ${shown(lastOf(one), unit)}`);
  const widest = Math.max(...whole.map((line) => line.length), 1) * 6.5 + 20;
  const lines = widest > width ? whole.flatMap((line) => line.split(/ (?=\w+=)| {2}(?=→)/)) : whole;
  const columns = Math.max(1, Math.floor(width / widest));
  const room = rows * columns;
  const kept =
    lines.length > room ? [...lines.slice(0, room - 1), `and ${lines.length - room + 1} more`] : lines;
  return kept
    .map((line, index) => {
      const left = x + 10 + Math.floor(index / rows) * widest;
      return text(left, y + 42 + (index % rows) * 17, line, 11, '#333');
    })
    .join('');
}

function drawCurves(
  series: readonly NamedSeries[],
  unit: string,
  { start, end }: Window,
  { x, y, width, height }: Box,
  stacked: boolean,
): string {
  const plot = { left: x + 62, top: y + 32, width: width - 76, height: height - 32 - 40 };
  const curves = stacked ? stack(series) : series;
  const values = curves.flatMap(({ points }) => points.map(([, value]) => value)).filter(Number.isFinite);
  const top = Math.max(...values, 0) || 1;
  const at = ([time, value]: readonly [number, number]) =>
    `${(plot.left + ((time - start) / (end - start)) * plot.width).toFixed(1)},${(plot.top + plot.height * (1 - value / top)).toFixed(1)}`;
  const grid = [0, 0.5, 1].map((part) => {
    const level = plot.top + plot.height * (1 - part);
    return `<line x1="${plot.left}" x2="${plot.left + plot.width}" y1="${level}" y2="${level}" stroke="#e5e6e7"/>${text(x + 8, level + 4, shown(top * part, unit), 10, '#777')}`;
  });
  const lines = curves.map(({ points }, index) => {
    const finite = points.filter(([, value]) => Number.isFinite(value));
    const colour = COLOURS[index % COLOURS.length] ?? '#000';
    if (finite.length === 1) {
      const [cx = 0, cy = 0] = at(finite[0] ?? [0, 0]).split(',');
      return `<circle cx="${cx}" cy="${cy}" r="3" fill="${colour}"/>`;
    }
    return `<polyline fill="none" stroke="${colour}" stroke-width="1.6" points="${finite.map(at).join(' ')}"/>`;
  });
  return grid.join('') + lines.join('') + drawLegend(series, x + 10, y + height - 12, width);
}

function drawLegend(series: readonly NamedSeries[], x: number, y: number, width: number): string {
  const entries = series.slice(0, LEGEND_ENTRIES).map(({ name }) => name);
  if (series.length > LEGEND_ENTRIES) entries.push(`and ${series.length - LEGEND_ENTRIES} more`);
  const step = (width - 20) / Math.max(entries.length, 1);
  const letters = Math.max(3, Math.floor(step / 6.5) - 2);
  return entries
    .map((entry, index) => {
      const left = x + index * step;
      const label = entry.length > letters ? `${entry.slice(0, letters - 1)}…` : entry;
      const colour = COLOURS[index % COLOURS.length] ?? '#000';
      return `<rect x="${left}" y="${y - 8}" width="8" height="8" fill="${colour}"/>${text(left + 11, y, label, 10, '#444')}`;
    })
    .join('');
}

/** Each series on top of those before it. */
function stack(series: readonly NamedSeries[]): NamedSeries[] {
  const below = new Map<number, number>();
  return series.map((one) => ({
    ...one,
    points: one.points.map(([time, value]) => {
      const sum = (below.get(time) ?? 0) + (Number.isFinite(value) ? value : 0);
      below.set(time, sum);
      return [time, sum] as const;
    }),
  }));
}

function lastOf(series: NamedSeries | undefined): number | undefined {
  return series?.points.findLast(([, value]) => !Number.isNaN(value))?.[1];
}

/** A value in words of its unit. */
export function shown(value: number | undefined, unit: string): string {
  if (value === undefined) return '–';
  if (!Number.isFinite(value)) return value > 0 ? '∞' : '–∞';
  if (unit === 'percentunit') return `${(value * 100).toFixed(1)} %`;
  if (unit === 's') return value < 1 ? `${round(value * 1000)} ms` : `${round(value)} s`;
  if (unit === 'bytes' || unit === 'Bps') return `${scaled(value)}B${unit === 'Bps' ? '/s' : ''}`;
  return `${scaled(value)}${unit === 'reqps' ? '/s' : ''}`.trim();
}

function scaled(value: number): string {
  for (const [factor, prefix] of [
    [1e9, 'G'],
    [1e6, 'M'],
    [1e3, 'k'],
  ] as const) {
    if (Math.abs(value) >= factor) return `${round(value / factor)} ${prefix}`;
  }
  return `${round(value)} `;
}

function round(value: number): string {
  return String(Number(value.toPrecision(3)));
}

function text(
  x: number,
  y: number,
  content: string,
  size: number,
  colour: string,
  weight = 'normal',
): string {
  const escaped = content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
  return `<text x="${x}" y="${y}" font-size="${size}" fill="${colour}" font-weight="${weight}">${escaped}</text>`;
}
