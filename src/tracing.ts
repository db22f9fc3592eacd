import type { Context, Span, SpanKind } from '@opentelemetry/api';
import type { BullMQOtel } from 'bullmq-otel';

/** Where spans go and who sends them. */
export type TracingSettings = {
  /** Base URL of an OTLP/HTTP receiver: `http://collector:4318`; spans go to `/v1/traces` below it. */
  readonly endpoint: string;
  readonly version: string;
  /** What tells the processes of a pod apart: `primary`, `worker 0`. */
  readonly instance: string;
  /** Told when spans cannot be delivered; nothing else happens then. */
  readonly onError: (message: string) => void;
};

/** Headers of a request that may name a trace. */
type Headers = Readonly<Record<string, string | readonly string[] | undefined>>;

/** Tracing of one process. */
export type Tracing = {
  /** What BullMQ's queues and workers take as `telemetry`: a job carries the trace of the request that made it. */
  readonly telemetry: BullMQOtel;
  /** Runs `work` in a span of its own, below the one that the caller's `traceparent` names. */
  serve<T>(method: string, headers: Headers, work: (answered: Answered) => Promise<T>): Promise<T>;
  /** A span for what has just ended, below the running one. */
  ended(name: string, seconds: number, attributes: Readonly<Record<string, string | number>>): void;
  /** Id of the running trace; undefined outside one. */
  traceId(): string | undefined;
  /** Delivers what is left. Never rejects. */
  stop(): Promise<void>;
};

/** Names the span of a request once its route and status are known. */
export type Answered = (route: string, status: number) => void;

/** A receiver that does not answer must not hold up the end of a process longer. */
const STOP_MS = 3000;

/**
 * Starts tracing with OpenTelemetry. Its packages are loaded here and nowhere else, so that a process without tracing
 * neither loads nor runs any of it. Idle polling of the queues makes no spans.
 */
export async function startTracing(settings: TracingSettings): Promise<Tracing> {
  const [api, sdk, exporter, resources, queue] = await Promise.all([
    import('@opentelemetry/api'),
    import('@opentelemetry/sdk-trace-node'),
    import('@opentelemetry/exporter-trace-otlp-http'),
    import('@opentelemetry/resources'),
    import('bullmq-otel'),
  ]);
  const { context, propagation, trace, diag, DiagLogLevel } = api;
  diag.setLogger(
    { ...silent, error: settings.onError, warn: settings.onError },
    { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true },
  );
  const provider = new sdk.NodeTracerProvider({
    resource: resources.resourceFromAttributes({
      'service.name': 'roboflow-worker',
      'service.version': settings.version,
      'service.instance.id': settings.instance,
      'process.pid': process.pid,
    }),
    sampler: new sdk.ParentBasedSampler({
      root: withoutPolling(api.SpanKind.INTERNAL, sdk.SamplingDecision),
    }),
    spanProcessors: [
      new sdk.BatchSpanProcessor(
        new exporter.OTLPTraceExporter({ url: `${settings.endpoint.replace(/\/+$/, '')}/v1/traces` }),
        { scheduledDelayMillis: 1000 },
      ),
    ],
  });
  provider.register();
  const tracer = trace.getTracer('roboflow-worker', settings.version);

  return {
    telemetry: new queue.BullMQOtel({ tracerName: 'roboflow-worker', version: settings.version }),
    async serve(method, headers, work) {
      const parent = propagation.extract(context.active(), headers);
      const span = tracer.startSpan(method, { kind: api.SpanKind.SERVER }, parent);
      span.setAttribute('http.request.method', method);
      const answered: Answered = (route, status) => {
        span.updateName(`${method} ${route}`);
        span.setAttributes({ 'http.route': route, 'http.response.status_code': status });
        if (status >= 500) span.setStatus({ code: api.SpanStatusCode.ERROR });
      };
      return await within(span, trace.setSpan(parent, span), (ctx) =>
        context.with(ctx, work, undefined, answered),
      );
    },
    ended(name, seconds, attributes) {
      const end = Date.now();
      tracer.startSpan(name, { startTime: end - seconds * 1000, attributes: { ...attributes } }).end(end);
    },
    traceId: () => trace.getActiveSpan()?.spanContext().traceId,
    async stop() {
      const late = new Promise((resolve) => setTimeout(resolve, STOP_MS).unref());
      await Promise.race([
        provider.shutdown().catch((error: unknown) => settings.onError(String(error))),
        late,
      ]);
    },
  };
}

async function within<T>(span: Span, ctx: Context, work: (ctx: Context) => Promise<T>): Promise<T> {
  try {
    return await work(ctx);
  } finally {
    span.end();
  }
}

const silent = {
  verbose: () => undefined,
  debug: () => undefined,
  info: () => undefined,
};

/** Samples what begins with a request or a job; BullMQ's own looks at empty queues begin with an internal span. */
function withoutPolling(
  internal: SpanKind,
  decisions: { readonly NOT_RECORD: 0; readonly RECORD_AND_SAMPLED: 2 },
) {
  return {
    shouldSample: (_context: Context, _traceId: string, _name: string, kind: SpanKind) => ({
      decision: kind === internal ? decisions.NOT_RECORD : decisions.RECORD_AND_SAMPLED,
    }),
    toString: () => 'WithoutPolling',
  };
}
