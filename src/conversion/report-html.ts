/** HTML that is safe to put into a page as it is; everything else is escaped when it is put in. */
export type Html = { readonly html: string };

/** Template tag: texts and numbers are escaped, `Html` and lists of it are taken as they are. */
export function markup(
  parts: TemplateStringsArray,
  ...values: readonly (Html | readonly Html[] | string | number)[]
): Html {
  const text = parts.map((part, i) => {
    const value = values[i];
    if (value === undefined) return part;
    if (typeof value === 'string' || typeof value === 'number') return part + escaped(String(value));
    return part + ('html' in value ? value.html : value.map((each) => each.html).join(''));
  });
  return { html: text.join('') };
}

/** Control characters would make the page invalid or hide what follows; they are shown as a sign. */
function escaped(text: string): string {
  return text
    .replaceAll(/[\p{Cc}\p{Bidi_C}]/gu, (char) => (char === '\n' || char === '\t' ? ' ' : '\uFFFD'))
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;')
    .replaceAll("'", '&#39;');
}

/** The look of a report: one column, light and dark, no scripts, nothing from elsewhere. */
export const stylesheet = `
:root { color-scheme: light dark; --bg: #fbfbfa; --fg: #1d1f21; --soft: #6b7075; --line: #dddfe1; --card: #fff; --a: #1668c7; --b: #d9600a; --warn: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --bg: #16181a; --fg: #e8e9ea; --soft: #9aa0a6; --line: #33373b; --card: #1e2124; --a: #6db2ff; --b: #ff9d52; --warn: #ff8a80; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1200px; padding: 24px; background: var(--bg); color: var(--fg); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 24px; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 36px 0 12px; }
h3 { font-size: 15px; margin: 20px 0 8px; overflow-wrap: anywhere; }
p, dl { margin: 0 0 8px; }
.soft, figcaption, dt { color: var(--soft); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; }
dd { margin: 0; overflow-wrap: anywhere; }
.sheet { display: grid; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); gap: 8px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 12px; }
figure { margin: 0; background: var(--card); border: 1px solid var(--line); border-radius: 6px; padding: 6px; }
figure img { display: block; width: 100%; height: auto; border-radius: 3px; }
figcaption { font-size: 12px; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font: 10px system-ui, sans-serif; font-variant-numeric: tabular-nums; }
svg .axis { stroke: var(--line); }
svg path { fill: none; stroke-width: 1.5; stroke-linejoin: round; vector-effect: non-scaling-stroke; }
.a { stroke: var(--a); } .b { stroke: var(--b); }
.key { display: inline-block; width: 18px; height: 3px; vertical-align: middle; margin: 0 6px 0 0; }
.key.a { background: var(--a); } .key.b { background: var(--b); margin-left: 16px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 12px; font-variant-numeric: tabular-nums; width: 100%; }
th, td { text-align: right; vertical-align: top; padding: 4px; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; line-height: 1.2; vertical-align: bottom; }
td { white-space: nowrap; }
td:first-child { white-space: normal; overflow-wrap: anywhere; min-width: 120px; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
@media (max-width: 900px) { body { padding: 12px; } table { font-size: 11px; } th, td { padding: 3px 2px; } }
.warn { color: var(--warn); font-weight: 600; }
`;
