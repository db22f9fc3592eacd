import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { ruleCases } from './rule-cases.ts';

const rule = z.object({ expr: z.string(), labels: z.record(z.string(), z.string()).default({}) });
const ruleFile = z.object({
  groups: z.array(
    z.object({
      name: z.string(),
      rules: z.array(
        z.union([
          rule.extend({ record: z.string() }),
          rule.extend({ alert: z.string(), annotations: z.record(z.string(), z.string()) }),
        ]),
      ),
    }),
  ),
});

export type RecordingRule = { readonly record: string; readonly expr: string };
export type AlertingRule = {
  readonly alert: string;
  readonly expr: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
};

/** The rules of roboflow.rules.yml in `folder`. */
export function readRules(folder: string): { recording: RecordingRule[]; alerting: AlertingRule[] } {
  const text = readFileSync(path.join(folder, 'roboflow.rules.yml'), 'utf8');
  const rules = ruleFile.parse(parse(text)).groups.flatMap((group) => group.rules);
  return {
    recording: rules.filter((entry) => 'record' in entry),
    alerting: rules.filter((entry) => 'alert' in entry),
  };
}

/**
 * roboflow.rules.test.yml: the situations of `ruleCases` in promtool's own words. promtool compares every annotation
 * of an alert, so they are taken from the rules.
 */
export function renderRuleTests(folder: string): string {
  const alerts = new Map(readRules(folder).alerting.map((entry) => [entry.alert, entry]));
  const tests = ruleCases.map(({ name, series, alerts: expected }) => ({
    name,
    interval: '1m',
    input_series: Object.entries(series).map(([selector, values]) => ({ series: selector, values })),
    alert_rule_test: expected.map(({ at, alert, fires }) => {
      const found = alerts.get(alert);
      if (found === undefined)
        throw new Error(`expected an alert of roboflow.rules.yml, found ${alert} in "${name}"`);
      return {
        eval_time: at,
        alertname: alert,
        exp_alerts:
          fires === undefined
            ? []
            : [{ exp_labels: { ...found.labels, ...fires }, exp_annotations: found.annotations }],
      };
    }),
  }));
  const file = { rule_files: ['roboflow.rules.yml'], evaluation_interval: '30s', tests };
  return `# Generated from rule-cases.ts by \`npm run generate\`; run with: promtool test rules roboflow.rules.test.yml\n${stringify(file, { lineWidth: 0 })}`;
}
