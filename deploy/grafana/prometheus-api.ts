import { z } from 'zod';

/** One series of an answer: its labels, and [seconds since 1970, value] pairs. Values may be NaN or infinite. */
export type Series = {
  readonly labels: Readonly<Record<string, string>>;
  readonly points: readonly (readonly [number, number])[];
};

/** One rule as Prometheus runs it. */
export type RuleState = {
  readonly name: string;
  readonly type: 'alerting' | 'recording';
  readonly query: string;
  readonly health: string;
  readonly lastError: string;
  readonly firing: boolean;
};

const sample = z.tuple([z.number(), z.string()]);
const matrix = z.object({
  result: z.array(z.object({ metric: z.record(z.string(), z.string()), values: z.array(sample) })),
});
const vector = z.object({
  result: z.array(z.object({ metric: z.record(z.string(), z.string()), value: sample })),
});
const rules = z.object({
  groups: z.array(
    z.object({
      rules: z.array(
        z.object({
          name: z.string(),
          type: z.enum(['alerting', 'recording']),
          query: z.string(),
          health: z.string(),
          lastError: z.string().optional(),
          state: z.string().optional(),
        }),
      ),
    }),
  ),
});
const envelope = z.object({
  status: z.enum(['success', 'error']),
  error: z.string().optional(),
  data: z.unknown().optional(),
});

/** The query API of the Prometheus at `url`. Every call throws an `Error` with Prometheus' own sentence. */
export function prometheusApi(url: string) {
  const get = async <S extends z.ZodType>(
    path: string,
    parameters: Readonly<Record<string, string>>,
    schema: S,
  ): Promise<z.output<S>> => {
    const response = await fetch(`${url}/api/v1/${path}?${new URLSearchParams(parameters).toString()}`, {
      signal: AbortSignal.timeout(10_000),
    });
    const answer = envelope.parse(await response.json());
    if (answer.status === 'error') throw new Error(`Prometheus: ${answer.error ?? response.status}`);
    return schema.parse(answer.data);
  };

  return {
    /** A range query from `start` to `end`, seconds since 1970, every `step` seconds. */
    async range(expr: string, start: number, end: number, step: number): Promise<Series[]> {
      const times = { start: String(start), end: String(end), step: String(step) };
      const { result } = await get('query_range', { query: expr, ...times }, matrix);
      return result.map(({ metric, values }) => ({
        labels: metric,
        points: values.map(([time, value]) => [time, numberOf(value)] as const),
      }));
    },

    /** An instant query at `time`. */
    async instant(expr: string, time: number): Promise<Series[]> {
      const { result } = await get('query', { query: expr, time: String(time) }, vector);
      return result.map(({ metric, value: [at, value] }) => ({
        labels: metric,
        points: [[at, numberOf(value)] as const],
      }));
    },

    async rules(): Promise<RuleState[]> {
      const { groups } = await get('rules', {}, rules);
      return groups
        .flatMap((group) => group.rules)
        .map(({ state, lastError, ...rule }) => ({
          ...rule,
          lastError: lastError ?? '',
          firing: state === 'firing',
        }));
    },
  };
}

export type PrometheusApi = ReturnType<typeof prometheusApi>;

/** Prometheus writes `+Inf`, `-Inf`, `NaN`. */
function numberOf(text: string): number {
  return Number(text.replace('Inf', 'Infinity'));
}
