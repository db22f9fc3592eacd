import type { EpisodeManifest, EpisodePart } from '../dataset/types.ts';
import { InputError } from '../errors.ts';
import type { Feature, SourceReport } from '../frame/types.ts';
import { chart, shown, type Curve } from './report-chart.ts';
import { markup, stylesheet, type Html } from './report-html.ts';

/** One picture of the contact sheet: the frame's number within the episode and the picture as JPEG or PNG. */
export type SheetFrame = { readonly camera: string; readonly index: number; readonly picture: Uint8Array };

/** What a report of one episode is made from. */
export type EpisodeReport = {
  readonly manifest: EpisodeManifest;
  /** Position in `manifest.episodes`. */
  readonly episode: number;
  /** By vector feature, the rows of the episode in order; one array of values a row. */
  readonly rows: ReadonlyMap<string, readonly ArrayLike<number>[]>;
  readonly frames: readonly SheetFrame[];
};

/** More curves of one feature than this would hide each other; the rest is named. */
const mostCharts = 64;

/**
 * One self-contained HTML page about an episode: what it is, a contact sheet of every camera, state and action against
 * time, and how its rows came about. No scripts, nothing loaded from elsewhere; every text of the recording is escaped.
 */
export function episodePage(report: EpisodeReport): string {
  const { manifest, episode } = report;
  const part = manifest.episodes[episode];
  if (!part)
    throw new InputError(`expected an episode from 0 to ${manifest.episodes.length - 1}, found ${episode}`);
  const name = manifest.source.url.split('/').at(-1) ?? manifest.source.url;
  const title =
    manifest.episodes.length === 1 ? name : `${name}, episode ${episode + 1} of ${manifest.episodes.length}`;
  const page = markup`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta
          http-equiv="Content-Security-Policy"
          content="default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        />
        <title>${title}</title>
        <style>
          ${{ html: stylesheet }}
        </style>
      </head>
      <body>
        <h1>${title}</h1>
        <p class="soft">${part.tasks.join(' · ')}</p>
        ${factsOf(manifest, part)} ${sheets(report, part)} ${curves(report)} ${alignment(manifest)}
        ${losses(manifest)}
      </body>
    </html> `;
  return page.html;
}

function factsOf(manifest: EpisodeManifest, part: EpisodePart): Html {
  const { source, fps, robotType, converter, features } = manifest;
  const facts: [string, string][] = [
    ['Frames', `${part.frames} at ${fps} a second: ${shown(part.frames / fps)} s`],
    ['Start', isoTime(part.startTime)],
    ['Robot', robotType ?? 'not given'],
    ['Recording', source.url],
    ['Size', `${source.size} bytes, version ${source.etag}`],
    [
      'Features',
      features.map((feature) => `${feature.key} ${feature.dtype} [${feature.shape.join(', ')}]`).join(' · '),
    ],
    [
      'Converter',
      `roboflow-worker ${converter.version}${converter.encoder === null ? '' : `, ${converter.encoder}`}`,
    ],
  ];
  return markup`<dl>
    ${facts.map(
      ([term, text]) =>
        markup`<dt>${term}</dt>
          <dd>${text}</dd>`,
    )}
  </dl>`;
}

/** A time in ns since 1970 as ISO text with milliseconds; times of another clock as seconds. */
function isoTime(ns: string): string {
  const ms = Number(BigInt(ns) / 1_000_000n);
  return ms > 1e11 && ms < 8e15 ? new Date(ms).toISOString() : `${shown(ms / 1000)} s on its clock`;
}

function sheets({ manifest, frames }: EpisodeReport, part: EpisodePart): Html {
  const cameras = manifest.features.filter(({ camera }) => camera !== undefined);
  if (cameras.length === 0) return markup``;
  const sheet = ({ key, shape }: Feature) => {
    const pictures = frames.filter(({ camera }) => camera === key);
    return markup`<h3>${key} <span class="soft">${shape[1] ?? 0}×${shape[0] ?? 0}</span></h3>
      ${calibration(manifest, key)}
      <div class="sheet">
        ${pictures.map(({ index, picture }) => frame(key, index, picture, manifest.fps, part.frames))}
      </div>
      ${pictures.length === 0 ? markup`<p class="soft">No pictures were given.</p>` : markup``}`;
  };
  return markup`<h2>Cameras</h2>
    ${cameras.map(sheet)}`;
}

/** The calibration of a camera in a line, where there is one. */
function calibration({ intrinsics }: EpisodeManifest, key: string): Html {
  const found = intrinsics?.[key];
  if (!found) return markup``;
  const { topic, width, height, distortionModel, k } = found;
  const [fx = 0, , cx = 0, , fy = 0, cy = 0] = k;
  const focal =
    k.length === 9 ? `, focal length ${shown(fx)}, ${shown(fy)}, centre ${shown(cx)}, ${shown(cy)}` : '';
  return markup`<p class="soft">Calibrated at ${width}×${height} (${topic})${focal}${distortionModel === '' ? '' : `, ${distortionModel}`}</p>`;
}

function frame(key: string, index: number, picture: Uint8Array, fps: number, total: number): Html {
  const type = picture[0] === 0x89 ? 'png' : 'jpeg';
  const data = Buffer.from(picture.buffer, picture.byteOffset, picture.byteLength).toString('base64');
  return markup`<figure>
    <img src="data:image/${type};base64,${data}" alt="${key}, frame ${index} of ${total}" loading="lazy" />
    <figcaption>frame ${index} · ${(index / fps).toFixed(2)} s</figcaption>
  </figure> `;
}

/** State and action share a chart where they name the same joint; every other value has one of its own. */
function curves({ manifest, rows }: EpisodeReport): Html {
  const vectors = manifest.features.filter(({ key, dtype }) => rows.has(key) && dtype !== 'string');
  if (vectors.length === 0) return markup``;
  const state = vectors.find(({ key }) => key === 'observation.state');
  const action = vectors.find(({ key }) => key === 'action');
  const paired = state !== undefined && action !== undefined && sharesNames(state, action);
  const sections: Html[] = [];
  if (paired) {
    const charts = labelsOf(state).map((label, i) => {
      const other = labelsOf(action).indexOf(label);
      const both = [curveOf(rows, state, i), ...(other < 0 ? [] : [curveOf(rows, action, other)])];
      return chart(label, both, manifest.fps);
    });
    const alone = labelsOf(action).flatMap((label, i) =>
      labelsOf(state).includes(label)
        ? []
        : [chart(`action ${label}`, [curveOf(rows, action, i)], manifest.fps)],
    );
    sections.push(
      markup`<h3><span class="key a"></span>observation.state<span class="key b"></span>action</h3>`,
      limited([...charts, ...alone]),
    );
  }
  for (const feature of vectors) {
    if (paired && (feature === state || feature === action)) continue;
    const charts = labelsOf(feature).map((label, i) =>
      chart(label, [curveOf(rows, feature, i)], manifest.fps),
    );
    sections.push(markup`<h3>${feature.key}</h3>`, limited(charts));
  }
  return markup`<h2>Values against time</h2>
    ${sections}`;
}

function sharesNames(a: Feature, b: Feature): boolean {
  return a.names !== null && b.names !== null && a.names.some((name) => b.names?.includes(name));
}

function labelsOf({ key, names, shape }: Feature): readonly string[] {
  const size = shape.reduce((product, side) => product * side, 1);
  return names ?? Array.from({ length: size }, (_, i) => (size === 1 ? key : `${key}[${i}]`));
}

function curveOf(rows: EpisodeReport['rows'], { key }: Feature, dimension: number): Curve {
  return { key, values: Float64Array.from(rows.get(key) ?? [], (row) => row[dimension] ?? 0) };
}

function limited(charts: readonly Html[]): Html {
  const more = charts.length - mostCharts;
  return markup`<div class="charts">${charts.slice(0, mostCharts)}</div>
    ${more > 0 ? markup`<p class="soft">${more} more values are not drawn.</p>` : markup``}`;
}

function alignment({ alignment: report }: EpisodeManifest): Html {
  const { rows, droppedRows, derivedRows, outsideRows, sources } = report;
  return markup`<h2>Alignment</h2>
    <p>
      ${rows} rows kept${marked(droppedRows, ` · ${droppedRows} dropped for want of a sample`)} ·
      ${derivedRows} last rows without a next one · ${outsideRows} outside the episodes. All episodes of the
      recording; times in milliseconds.
    </p>
    <div class="scroll">
      <table>
        <thead>
          <tr>
            ${headings.map((heading) => markup`<th>${heading}</th>`)}
          </tr>
        </thead>
        <tbody>
          ${sources.map(sourceRow)}
        </tbody>
      </table>
    </div>`;
}

const headings = [
  'Feature, topic',
  'Clock, method',
  'Samples',
  'Used',
  'Late',
  'Undeco\u00addable',
  'Exact rows',
  'Held',
  'Inter\u00adpolated',
  'Dropped',
  'Age p50',
  'Age p95',
  'Age max',
  'Largest gap',
  'Stamp lag',
];

function sourceRow(source: SourceReport): Html {
  const { feature, topic, clock, method, samples, foreign, used, late, undecodable } = source;
  const { exact, held, interpolated, dropped, age, largestGap, stampLag } = source;
  const ms = (seconds: number | undefined) => (seconds === undefined ? '–' : shown(seconds * 1000));
  const cells: (Html | string)[] = [
    markup`${feature}<br /><span class="soft">${topic}</span>`,
    markup`${clock}<br />${method}`,
    foreign === undefined
      ? String(samples)
      : markup`${samples}<br /><span class="soft">${foreign}<br />of others</span>`,
    String(used),
    marked(late, String(late)),
    marked(undecodable, String(undecodable)),
    String(exact),
    String(held),
    String(interpolated),
    marked(dropped, String(dropped)),
    ms(age?.p50),
    ms(age?.p95),
    ms(age?.max),
    ms(largestGap),
    stampLag ? markup`${ms(stampLag.min)} to<br />${ms(stampLag.max)}` : '–',
  ];
  return markup`<tr>
    ${cells.map((cell) => markup`<td>${cell}</td>`)}
  </tr> `;
}

/** A count that should be zero stands out when it is not. */
function marked(count: number, text: string): Html {
  return count > 0 ? markup`<span class="warn">${text}</span>` : markup`${text}`;
}

function losses({ losses: lost }: EpisodeManifest): Html {
  if (lost.length === 0)
    return markup`<h2>Losses</h2>
      <p>Nothing of the recording was lost.</p>`;
  return markup`<h2>Losses</h2>
    <ul>
      ${lost.map(({ what, count, bytes }) => {
        const size = [
          ...(count === undefined ? [] : [`${count} times`]),
          ...(bytes === undefined ? [] : [`${bytes} bytes`]),
        ];
        return markup`<li class="warn">${what}${size.length > 0 ? ` (${size.join(', ')})` : ''}</li>`;
      })}
    </ul>`;
}
