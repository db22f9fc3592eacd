import { readFileSync } from 'node:fs';
import path from 'node:path';
import test from 'ava';
import { ruleCases } from '../../deploy/prometheus/rule-cases.ts';
import { readRules } from '../../deploy/prometheus/rule-tests.ts';
import { promtool } from '../helpers/promtool.ts';
import { unknownLabels, unknownMetrics } from './expressions.ts';

const folder = path.resolve(import.meta.dirname, '../../../deploy/prometheus');
const { recording, alerting } = readRules(folder);
const recorded = recording.map(({ record }) => record);

test('promtool accepts the rules and the scrape configuration', (t) => {
  const rules = promtool(t, ['check', 'rules', 'roboflow.rules.yml'], { cwd: folder });
  if (rules === undefined) return;
  t.is(rules.code, 0, rules.output);
  const config = promtool(t, ['check', 'config', 'prometheus.yml'], { cwd: folder });
  t.is(config?.code, 0, config?.output);
});

test('every situation raises and does not raise the alerts it says', (t) => {
  const answer = promtool(t, ['test', 'rules', 'roboflow.rules.test.yml'], { cwd: folder });
  if (answer !== undefined) t.is(answer.code, 0, answer.output);
});

test('every alert has a situation in which it fires and one in which it does not', (t) => {
  const expectations = ruleCases.flatMap(({ alerts }) => alerts);
  for (const { alert } of alerting) {
    const own = expectations.filter((entry) => entry.alert === alert);
    t.true(
      own.some(({ fires }) => fires !== undefined),
      `${alert} never fires in rule-cases.ts`,
    );
    t.true(
      own.some(({ fires }) => fires === undefined),
      `${alert} is never silent in rule-cases.ts`,
    );
  }
});

test('every alert says what is wrong, how bad it is, and leads to its own section of the runbook', (t) => {
  const headings = [...readFileSync(path.join(folder, 'RUNBOOK.md'), 'utf8').matchAll(/^## (\S+)$/gm)].map(
    ([, heading]) => heading ?? '',
  );
  t.deepEqual(headings.toSorted(), alerting.map(({ alert }) => alert).toSorted());
  for (const { alert, labels, annotations } of alerting) {
    t.regex(labels['severity'] ?? '', /^(?:critical|warning|info)$/, alert);
    t.regex(annotations['summary'] ?? '', /^[A-Z].*\.$/, alert);
    t.regex(annotations['description'] ?? '', /^[A-Z].*\.$/, alert);
    t.is(annotations['runbook'], `deploy/prometheus/RUNBOOK.md#${alert.toLowerCase()}`);
  }
});

test('rules use only metrics and labels of the catalogue, and what they record themselves', (t) => {
  for (const { expr } of [...recording, ...alerting]) {
    t.deepEqual(unknownMetrics(expr, recorded), [], expr);
    t.deepEqual(unknownLabels(expr), [], expr);
  }
});

test('a misspelt metric or label in an expression is found', (t) => {
  t.deepEqual(unknownMetrics('sum(rate(roboflow_frames_procesed_total[5m])) > up', []), [
    'roboflow_frames_procesed_total',
  ]);
  t.deepEqual(unknownMetrics('job:roboflow_x:ratio > 1', ['job:roboflow_y:ratio']), ['job:roboflow_x:ratio']);
  t.deepEqual(unknownMetrics('roboflow_stage_duration_seconds_bucket + roboflow_pending_uploads_sum', []), [
    'roboflow_pending_uploads_sum',
  ]);
  t.deepEqual(unknownLabels('roboflow_upload_retries_total{cause="x",job="y"}'), [
    'roboflow_upload_retries_total{cause}',
  ]);
  t.deepEqual(unknownLabels('roboflow_episodes_processed_total{status="done"}'), [
    'roboflow_episodes_processed_total{status="done"}',
  ]);
});
