import test from 'ava';
import { Registry } from 'prom-client';
import { createApp } from '../../src/http/app.ts';
import { listen } from '../../src/http/listen.ts';
import { metricsRouter } from '../../src/http/metrics.ts';
import { createLog } from '../../src/log.ts';
import { ClusterMetrics } from '../../src/metrics/cluster.ts';
import { createMetrics } from '../../src/metrics/index.ts';
import { createExposition } from '../../src/metrics/server.ts';

test('GET /metrics answers in the format asked for, without a token, uncached', async (t) => {
  const registry = new Registry();
  createMetrics(registry).conversion.framesProcessed.inc(221);
  const app = createApp({
    routers: [metricsRouter(createExposition(new ClusterMetrics({ registry })))],
    log: createLog({ level: 'silent', format: 'json' }),
    token: 'correct-horse-battery-staple',
  });
  const listening = await listen(app, { host: '127.0.0.1', port: 0 });
  t.teardown(() => listening.close({ graceMs: 50 }));
  const url = `http://127.0.0.1:${listening.port}/metrics`;

  const plain = await fetch(url);
  t.is(plain.status, 200);
  t.is(plain.headers.get('content-type'), 'text/plain; version=0.0.4; charset=utf-8');
  t.is(plain.headers.get('cache-control'), 'no-store');
  t.regex(await plain.text(), /^roboflow_frames_processed_total 221$/m);

  const open = await fetch(url, { headers: { Accept: 'application/openmetrics-text;version=1.0.0' } });
  t.is(open.headers.get('content-type'), 'application/openmetrics-text; version=1.0.0; charset=utf-8');
  t.regex(await open.text(), /^roboflow_frames_processed_total 221$/m);

  t.is((await fetch(url, { method: 'POST' })).status, 405);
});
