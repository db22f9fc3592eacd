import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'ava';
import { stringify } from 'yaml';
import { dashboardFiles, dashboards } from '../../deploy/grafana/dashboards.ts';
import type { PanelSpec } from '../../deploy/grafana/panel.ts';
import { substitute } from '../../deploy/grafana/variables.ts';
import { catalogue } from '../../src/metrics/catalogue.ts';
import { promtool } from '../helpers/promtool.ts';
import { unknownLabels, unknownMetrics } from './expressions.ts';

const panels = dashboards.flatMap(({ uid, rows }) =>
  rows.flatMap((row) => row.panels.map((panel) => ({ where: `${uid} / ${panel.title}`, panel }))),
);
const queries = panels.flatMap(({ where, panel }) => panel.queries.map(({ expr }) => ({ where, expr })));
const counters = Object.values(catalogue)
  .filter(({ type }) => type === 'counter')
  .map(({ name }) => name);

/** Units of Grafana that the panels may use. */
const UNITS: ReadonlySet<string> = new Set(['s', 'short', 'none', 'bytes', 'Bps', 'reqps', 'percentunit']);

/** What is wrong with a panel, in words. */
function faultsOf({ title, description, unit, queries: own, kind }: PanelSpec): string[] {
  const faults: string[] = [];
  if (!UNITS.has(unit)) faults.push(`unit "${unit}" is missing or unknown`);
  if (title === '' || !/^[A-Z0-9_].*\.$/.test(description)) faults.push('title or description is missing');
  if (own.length === 0) faults.push('no query');
  for (const { expr, legend } of own) {
    faults.push(...unknownMetrics(expr, []).map((name) => `unknown metric ${name}`));
    faults.push(...unknownLabels(expr).map((label) => `unknown label ${label}`));
    if (legend === '' && kind !== 'table') faults.push('a series has no name');
    if (!expr.includes('$job')) faults.push('the variable job is ignored');
    if (
      /\bsum[^(]*\((?:[^()]*\()?\s*roboflow_(?:queue|redis)_/.test(expr) &&
      !/max by \(state\)/.test(expr)
    ) {
      faults.push('a gauge that every pod reports alike is summed');
    }
    for (const counter of counters) {
      const uses = [...expr.matchAll(new RegExp(`\\b${counter}\\{[^}]*\\}(\\[[^\\]]+\\])?`, 'g'))];
      const total = title === 'Episodes ended, by dataset';
      if (!total && uses.some(([, range]) => range === undefined))
        faults.push(`${counter} without rate or increase`);
    }
  }
  return faults;
}

test('every panel has a unit, says what it shows, and asks for metrics and labels that exist', (t) => {
  t.true(panels.length >= 45);
  for (const { where, panel } of panels) t.deepEqual(faultsOf(panel), [], where);
});

test('the faults that the check above looks for are found', (t) => {
  const good: PanelSpec = {
    kind: 'series',
    title: 'X',
    description: 'Says it.',
    unit: 's',
    width: 24,
    queries: [{ expr: 'sum (roboflow_pending_uploads{job=~"$job"})', legend: 'x' }],
  };
  const withQuery = (expr: string): PanelSpec => ({ ...good, queries: [{ expr, legend: 'x' }] });
  t.deepEqual(faultsOf(good), []);
  t.deepEqual(faultsOf({ ...good, unit: '' }), ['unit "" is missing or unknown']);
  t.deepEqual(faultsOf(withQuery('roboflow_pending_upload{job=~"$job"}')), [
    'unknown metric roboflow_pending_upload',
  ]);
  t.deepEqual(faultsOf(withQuery('roboflow_pending_uploads{job=~"$job",kind="x"}')), [
    'unknown label roboflow_pending_uploads{kind}',
  ]);
  t.deepEqual(faultsOf(withQuery('sum (roboflow_upload_bytes_total{job=~"$job"})')), [
    'roboflow_upload_bytes_total without rate or increase',
  ]);
  t.deepEqual(faultsOf(withQuery('sum (roboflow_queue_jobs{job=~"$job"})')), [
    'a gauge that every pod reports alike is summed',
  ]);
  t.deepEqual(faultsOf(withQuery('roboflow_pending_uploads')), ['the variable job is ignored']);
});

test('Prometheus can parse every query', (t) => {
  const rules = queries.map(({ expr }, index) => ({ record: `query_${index}`, expr: substitute(expr) }));
  const folder = mkdtempSync(path.join(tmpdir(), 'roboflow-queries-'));
  t.teardown(() => rmSync(folder, { recursive: true }));
  const file = path.join(folder, 'queries.yml');
  writeFileSync(file, stringify({ groups: [{ name: 'queries', rules }] }));
  const answer = promtool(t, ['check', 'rules', '--lint=none', file]);
  if (answer !== undefined) t.is(answer.code, 0, answer.output);
});

type Built = {
  uid: string;
  editable: boolean;
  schemaVersion: number;
  templating: { list: { name: string }[] };
  panels: {
    id: number;
    type: string;
    gridPos: { x: number; y: number; w: number; h: number };
    targets?: { datasource: { uid: string }; refId: string }[];
  }[];
};

for (const [file, text] of dashboardFiles()) {
  test(`${file} is classic, fixed, and laid out without overlap`, (t) => {
    const board = JSON.parse(text) as Built;
    t.is(`deploy/grafana/${board.uid}.json`, file);
    t.false(board.editable);
    t.true(board.schemaVersion >= 36);
    t.deepEqual(
      board.templating.list.slice(0, 2).map(({ name }) => name),
      ['datasource', 'job'],
    );
    t.is(new Set(board.panels.map(({ id }) => id)).size, board.panels.length);
    const taken = new Set<string>();
    for (const { id, gridPos, targets } of board.panels) {
      t.true(gridPos.x + gridPos.w <= 24, `panel ${id} leaves the grid`);
      for (let x = gridPos.x; x < gridPos.x + gridPos.w; x += 1) {
        for (let y = gridPos.y; y < gridPos.y + gridPos.h; y += 1) {
          t.false(taken.has(`${x} ${y}`), `panel ${id} overlaps another`);
          taken.add(`${x} ${y}`);
        }
      }
      for (const { datasource } of targets ?? []) t.is(datasource.uid, '${datasource}');
    }
  });
}
