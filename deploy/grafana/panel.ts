import {
  BigValueColorMode,
  BigValueGraphMode,
  LegendDisplayMode,
  LegendPlacement,
  ReduceDataOptionsBuilder,
  SortOrder,
  StackingConfigBuilder,
  StackingMode,
  TooltipDisplayMode,
  VizLegendOptionsBuilder,
  VizTooltipOptionsBuilder,
} from '@grafana/grafana-foundation-sdk/common';
import {
  ThresholdsConfigBuilder,
  ThresholdsMode,
  type Threshold,
} from '@grafana/grafana-foundation-sdk/dashboard';
import { DataqueryBuilder, PromQueryFormat } from '@grafana/grafana-foundation-sdk/prometheus';
import { PanelBuilder as StatBuilder } from '@grafana/grafana-foundation-sdk/stat';
import { PanelBuilder as TableBuilder } from '@grafana/grafana-foundation-sdk/table';
import { PanelBuilder as TimeSeriesBuilder } from '@grafana/grafana-foundation-sdk/timeseries';

/** One query of a panel; `legend` names its series (`{{label}}` for a label's value). */
export type Query = { readonly expr: string; readonly legend: string };

/** One panel as this repository describes it. */
export type PanelSpec = {
  readonly kind: 'stat' | 'series' | 'stacked' | 'table';
  readonly title: string;
  /** What a person should read from it. */
  readonly description: string;
  /** Grafana's unit id. */
  readonly unit: string;
  readonly queries: readonly Query[];
  /** Of 24 columns; the panels of a line add up to 24. */
  readonly width: number;
  /** From these values on, the colour changes (stat). The first colour holds below them. */
  readonly thresholds?: { readonly base: string; readonly steps: readonly (readonly [number, string])[] };
  readonly max?: number;
};

/** The data source every query goes to: the variable of the dashboard. */
export const DATASOURCE = { type: 'prometheus', uid: '${datasource}' } as const;

type AnyPanel = StatBuilder | TimeSeriesBuilder | TableBuilder;

/** The panel with a fixed id, so that a regenerated dashboard differs only where something changed. */
export function buildPanel(spec: PanelSpec, id: number): AnyPanel {
  const panel = empty(spec)
    .id(id)
    .title(spec.title)
    .description(spec.description)
    .unit(spec.unit)
    .datasource(DATASOURCE)
    .span(spec.width);
  if (spec.kind === 'series' || spec.kind === 'stacked') panel.min(0);
  if (spec.max !== undefined) panel.max(spec.max);
  if (spec.thresholds !== undefined) panel.thresholds(thresholds(spec.thresholds));
  for (const [index, query] of spec.queries.entries()) panel.withTarget(target(spec, query, index));
  return panel;
}

function empty({ kind }: PanelSpec): AnyPanel {
  if (kind === 'table') return new TableBuilder().height(8).showHeader(true);
  if (kind === 'stat') {
    return new StatBuilder()
      .height(4)
      .graphMode(BigValueGraphMode.None)
      .colorMode(BigValueColorMode.Value)
      .reduceOptions(new ReduceDataOptionsBuilder().calcs(['lastNotNull']));
  }
  const panel = new TimeSeriesBuilder()
    .height(8)
    .lineWidth(1)
    .fillOpacity(kind === 'stacked' ? 30 : 8)
    .legend(
      new VizLegendOptionsBuilder()
        .displayMode(LegendDisplayMode.List)
        .placement(LegendPlacement.Bottom)
        .showLegend(true),
    )
    .tooltip(new VizTooltipOptionsBuilder().mode(TooltipDisplayMode.Multi).sort(SortOrder.Descending));
  return kind === 'stacked' ? panel.stacking(new StackingConfigBuilder().mode(StackingMode.Normal)) : panel;
}

function target(spec: PanelSpec, query: Query, index: number): DataqueryBuilder {
  const built = new DataqueryBuilder()
    .refId(String.fromCodePoint(65 + index))
    .datasource(DATASOURCE)
    .expr(query.expr)
    .legendFormat(query.legend);
  if (spec.kind === 'table') return built.instant().format(PromQueryFormat.Table);
  return spec.kind === 'stat' ? built.instant() : built.range();
}

function thresholds({ base, steps }: NonNullable<PanelSpec['thresholds']>): ThresholdsConfigBuilder {
  const all: Threshold[] = [
    { value: null, color: base },
    ...steps.map(([value, color]) => ({ value, color })),
  ];
  return new ThresholdsConfigBuilder().mode(ThresholdsMode.Absolute).steps(all);
}
