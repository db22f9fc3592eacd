/** Words that every panel's query is made of. Counters: rate over the panel's own interval. Queue gauges: max. */

/** Selector of the pods that the dashboard shows. */
export const JOB = 'job=~"$job"';

/** Sum per second of a counter, by labels. */
export function perSecond(counter: string, by: readonly string[] = [], matchers = ''): string {
  const selector = matchers === '' ? JOB : `${JOB},${matchers}`;
  return `sum${grouped(by)} (rate(${counter}{${selector}}[$__rate_interval]))`;
}

/** What a counter grew by over the range that is shown, by labels. */
export function overRange(counter: string, by: readonly string[] = [], matchers = ''): string {
  const selector = matchers === '' ? JOB : `${JOB},${matchers}`;
  return `sum${grouped(by)} (increase(${counter}{${selector}}[$__range]))`;
}

/** A quantile of a histogram, by labels. */
export function quantile(q: number, histogram: string, by: readonly string[] = []): string {
  return `histogram_quantile(${q}, sum${grouped([...by, 'le'])} (rate(${histogram}_bucket{${JOB}}[$__rate_interval])))`;
}

/** A gauge summed over pods. */
export function total(gauge: string, by: readonly string[] = []): string {
  return `sum${grouped(by)} (${gauge}{${JOB}})`;
}

/** A gauge that every pod reports alike. */
export function shared(gauge: string, by: readonly string[] = [], matchers = ''): string {
  const selector = matchers === '' ? JOB : `${JOB},${matchers}`;
  return `max${grouped(by)} (${gauge}{${selector}})`;
}

function grouped(by: readonly string[]): string {
  return by.length === 0 ? '' : ` by (${by.join(', ')})`;
}
