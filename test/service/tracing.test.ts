import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { json } from 'node:stream/consumers';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from '../helpers/conversion.ts';
import { demonstration } from '../helpers/demonstration.ts';
import { PrivateRedis } from '../helpers/redis.ts';
import { startService, untilAsync } from '../helpers/service.ts';

type Attribute = { key: string; value: { stringValue?: string; intValue?: number } };
type OtlpSpan = {
  name: string;
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  attributes: Attribute[];
};
type OtlpBody = {
  resourceSpans: {
    resource: { attributes: Attribute[] };
    scopeSpans: { spans: OtlpSpan[] }[];
  }[];
};
type ReceivedSpan = OtlpSpan & { readonly instance: string | undefined };

/** An OTLP/HTTP receiver that keeps what it is sent. */
async function receiver(t: ExecutionContext) {
  const spans: ReceivedSpan[] = [];
  const server = createServer((request, response) => {
    void (async () => {
      if (request.method !== 'POST' || request.url !== '/v1/traces') {
        response.writeHead(404).end();
        return;
      }
      for (const { resource, scopeSpans } of ((await json(request)) as OtlpBody).resourceSpans) {
        const instance = valueOf(resource.attributes, 'service.instance.id');
        spans.push(...scopeSpans.flatMap((scope) => scope.spans.map((span) => ({ ...span, instance }))));
      }
      response.writeHead(200, { 'content-type': 'application/json' }).end('{}');
    })();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { spans, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

function valueOf(attributes: readonly Attribute[], key: string): string | undefined {
  return attributes.find((attribute) => attribute.key === key)?.value.stringValue;
}

async function rig(t: ExecutionContext, endpoint: string) {
  const folder = await temporaryFolder(t);
  const redis = await PrivateRedis.start();
  t.teardown(() => redis.end());
  const service = await startService(t, {
    REDIS_URL: redis.url,
    WORKERS: '1',
    OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
    SCRATCH_DIR: join(folder, 'scratch'),
    CACHE_DIR: join(folder, 'cache'),
  });
  await mkdir(join(folder, 'raw'));
  const recording = join(folder, 'raw', 'a.mcap');
  await writeFile(recording, await demonstration({ seconds: 1, cameras: [] }));
  const convert = async (headers: Readonly<Record<string, string>> = {}) => {
    const answer = await fetch(`${service.url}/v1/datasets`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify({
        datasetId: 'cups',
        output: pathToFileURL(join(folder, 'dataset')).href,
        config: {
          fps: 30,
          task: 'Stack the cups.',
          features: { 'observation.state': { topic: '/joint_states', field: 'position', names: 'all' } },
        },
        recordings: [{ source: pathToFileURL(recording).href }],
      }),
    });
    t.is(answer.status, 202, await answer.text());
    await untilAsync(async () => {
      const { body } = await service.get<{ state: string }>('/v1/datasets/cups');
      return body.state === 'completed';
    });
  };
  return { service, convert };
}

test("a caller's trace goes on through the request, both queues and the worker to every stage", async (t) => {
  const { spans, url } = await receiver(t);
  const { service, convert } = await rig(t, url);
  const traceId = '0af7651916cd43dd8448eb211c80319c';
  await convert({ traceparent: `00-${traceId}-b7ad6b7169203331-01` });
  t.is(await service.end(), 0);

  const own = spans.filter((span) => span.traceId === traceId);
  const named = (name: string) => own.find((span) => span.name === name);
  const request = named('POST /v1/datasets');
  t.is(request?.parentSpanId, 'b7ad6b7169203331');
  t.is(request?.instance, 'primary');
  t.is(valueOf(request?.attributes ?? [], 'http.route'), '/v1/datasets');
  const added = named('add datasets.dataset');
  t.is(added?.parentSpanId, request?.spanId);
  const planned = named('process datasets');
  t.is(planned?.parentSpanId, added?.spanId);
  const bulk = named('addBulk episodes');
  t.is(bulk?.parentSpanId, planned?.spanId);
  const episode = named('process episodes');
  t.is(episode?.parentSpanId, bulk?.spanId);
  t.is(episode?.instance, 'worker 0');
  for (const stage of ['plan', 'convert', 'verify', 'upload']) {
    t.is(named(stage)?.parentSpanId, episode?.spanId, stage);
  }
  const known = new Set(spans.map(({ spanId }) => spanId));
  const roots = spans.filter(({ parentSpanId }) => parentSpanId === undefined || !known.has(parentSpanId));
  t.deepEqual(
    roots.filter(({ name }) => !/^(GET|POST) \/v1/.test(name)).map(({ name }) => name),
    [],
    'nothing but requests begins a trace here: idle polling is silent',
  );
  t.true(
    service
      .log()
      .split('\n')
      .some((line) => line.includes('"stage ended"') && line.includes(`"traceId":"${traceId}"`)),
    'the lines of a job name its trace',
  );
});

test('a receiver that is away is said once and holds nothing up', async (t) => {
  const { service, convert } = await rig(t, 'http://127.0.0.1:9');
  await convert();
  await untilAsync(async () => service.log().includes('traces are not delivered'));
  t.is(await service.end(), 0);
  const said = service.log().split('"msg":"traces are not delivered"').length - 1;
  t.true(said >= 1 && said <= 2, `once by each process: ${said}`);
});

test('without a receiver nothing of OpenTelemetry is loaded but the API that prom-client brings', async (t) => {
  const program = `
    const { createRequire } = await import('node:module');
    for (const path of ['primary', 'worker', 'tracing']) await import(process.cwd() + '/dist/src/cluster/' + path + '.js');
    const loaded = Object.keys(createRequire(process.cwd() + '/x.js').cache);
    console.log(loaded.length > 0, loaded.filter((path) => /@opentelemetry\\/(?!api\\/)|bullmq-otel/.test(path)).length);
    process.exit();`;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program]);
  t.is(stdout.trim(), 'true 0');
});
