/** Values for the variables of the dashboards, to run their queries without Grafana. */
export type Substitution = { readonly rateInterval?: string; readonly range?: string };

/** A panel's query as Prometheus takes it: every job and dataset, the given intervals. */
export function substitute(expr: string, { rateInterval = '1m', range = '1h' }: Substitution = {}): string {
  return expr
    .replaceAll('$__rate_interval', rateInterval)
    .replaceAll('$__range', range)
    .replaceAll(/\$(?:job|dataset)\b/g, '.*');
}
