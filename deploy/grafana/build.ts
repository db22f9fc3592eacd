import {
  AnnotationQueryBuilder,
  DashboardBuilder,
  DashboardCursorSync,
  DatasourceVariableBuilder,
  QueryVariableBuilder,
  RowBuilder,
  VariableRefresh,
  type Dashboard,
} from '@grafana/grafana-foundation-sdk/dashboard';
import { DataqueryBuilder } from '@grafana/grafana-foundation-sdk/prometheus';
import { buildPanel, DATASOURCE, type PanelSpec } from './panel.ts';

/** A variable whose values come from Prometheus. */
export type VariableSpec = { readonly name: string; readonly label: string; readonly query: string };

/** One dashboard as this repository describes it: rows of panels. */
export type DashboardSpec = {
  readonly uid: string;
  readonly title: string;
  readonly description: string;
  readonly variables?: readonly VariableSpec[];
  readonly rows: readonly { readonly title: string; readonly panels: readonly PanelSpec[] }[];
};

/** Grafana's classic dashboard JSON: fixed uid and panel ids, not editable, data source and job as variables. */
export function buildDashboard(spec: DashboardSpec): Dashboard {
  const board = new DashboardBuilder(spec.title)
    .uid(spec.uid)
    .description(spec.description)
    .tags(['roboflow'])
    .readonly()
    .timezone('browser')
    .refresh('30s')
    .time({ from: 'now-3h', to: 'now' })
    .tooltip(DashboardCursorSync.Crosshair)
    .withVariable(new DatasourceVariableBuilder('datasource').label('Data source').type('prometheus'))
    .annotation(
      new AnnotationQueryBuilder()
        .name('Alerts')
        .datasource(DATASOURCE)
        .enable(true)
        .iconColor('red')
        .expr('ALERTS{alertname=~"Roboflow.*",alertstate="firing"}')
        .target(
          new DataqueryBuilder()
            .refId('Anno')
            .expr('ALERTS{alertname=~"Roboflow.*",alertstate="firing"}')
            .datasource(DATASOURCE),
        )
        .titleFormat('{{alertname}}')
        .step('30s'),
    );
  const job = { name: 'job', label: 'Job', query: 'label_values(roboflow_build_info, job)' };
  for (const variable of [job, ...(spec.variables ?? [])]) {
    board.withVariable(
      new QueryVariableBuilder(variable.name)
        .label(variable.label)
        .datasource(DATASOURCE)
        .query(variable.query)
        .refresh(VariableRefresh.OnTimeRangeChanged)
        .multi(true)
        .includeAll(true)
        .allValue('.*')
        .current({ selected: true, text: 'All', value: '$__all' }),
    );
  }
  let id = 0;
  for (const row of spec.rows) {
    id += 1;
    board.withRow(new RowBuilder(row.title).id(id));
    for (const panel of row.panels) {
      id += 1;
      board.withPanel(buildPanel(panel, id));
    }
  }
  return board.build();
}
