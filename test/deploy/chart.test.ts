import { execFile } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { parse } from 'yaml';
import { environment, loadConfig } from '../../src/config.ts';
import {
  apiFaults,
  chartFolder,
  chartToken as token,
  chartTools,
  chartValueSets as valueSets,
  renderChart,
  type ChartTools,
  type Manifest,
} from '../helpers/chart.ts';
import { temporaryFolder } from '../helpers/conversion.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const run = promisify(execFile);

// Where they cannot be had the tests are skipped, except in CI.
const tools = await chartTools().catch((error: Error) => {
  if (process.env['CI']) throw error;
  console.log(`the chart is not rendered: ${error.message.split('\n')[0]}`);
  return undefined;
});
const rendered = tools === undefined ? test.skip : test;
const render = (values: readonly string[], chart?: string) => renderChart(tools as ChartTools, values, chart);

type Node = { readonly [key: string]: unknown };

/** Value by dotted path; numbers index arrays. */
function at(node: unknown, path: string): unknown {
  return path
    .split('.')
    .reduce<unknown>((value, key) => (value as Readonly<Record<string, unknown>> | undefined)?.[key], node);
}

/** What must hold in any rendering: names unique, selectors and references resolved, environment accepted. */
function assertSound(t: ExecutionContext, manifests: readonly Manifest[]): void {
  const ids = manifests.map((manifest) => `${manifest.kind}/${manifest.metadata.name}`);
  t.deepEqual(ids, [...new Set(ids)]);
  const pods = manifests.filter(({ kind }) => ['Deployment', 'StatefulSet'].includes(kind));
  t.true(pods.length >= 2);
  const labelsOf = (pod: Manifest) => at(pod, 'spec.template.metadata.labels') as Record<string, string>;
  const matches = (selector: unknown, pod: Manifest) =>
    Object.entries(selector as Record<string, string>).every(([key, value]) => labelsOf(pod)[key] === value);
  for (const pod of pods) {
    t.true(matches(at(pod, 'spec.selector.matchLabels'), pod), pod.metadata.name);
    t.is(at(pod, 'spec.template.spec.automountServiceAccountToken'), false);
    t.is(at(pod, 'spec.template.spec.securityContext.runAsNonRoot'), true);
    t.is(at(pod, 'spec.template.spec.containers.0.securityContext.readOnlyRootFilesystem'), true);
    const grace = Number(at(pod, 'spec.template.spec.terminationGracePeriodSeconds') ?? 30);
    const env = (at(pod, 'spec.template.spec.containers.0.env') ?? []) as { name: string; value: string }[];
    const shutdown = Number(env.find(({ name }) => name === 'SHUTDOWN_GRACE_SECONDS')?.value ?? 0);
    t.true(shutdown < grace, `${pod.metadata.name} ends before it is killed`);
    for (const { name } of env) t.true(name in environment.shape, name);
  }
  for (const service of manifests.filter(({ kind }) => kind === 'Service')) {
    const target = pods.find((pod) => matches(at(service, 'spec.selector'), pod));
    const ports = (at(target, 'spec.template.spec.containers.0.ports') ?? []) as { name: string }[];
    t.true(
      ports.some(({ name }) => name === at(service, 'spec.ports.0.targetPort')),
      service.metadata.name,
    );
  }
  for (const budget of manifests.filter(({ kind }) => kind === 'PodDisruptionBudget')) {
    t.is(pods.filter((pod) => matches(at(budget, 'spec.selector.matchLabels'), pod)).length, 1);
  }
  const config = manifests.find(
    ({ kind, metadata }) => kind === 'ConfigMap' && !('grafana_dashboard' in (metadata.labels ?? {})),
  );
  const data = at(config, 'data') as Record<string, string>;
  for (const pod of pods.filter(({ kind }) => kind === 'Deployment')) {
    const from = at(pod, 'spec.template.spec.containers.0.envFrom') as Node[];
    t.is(at(from[0], 'configMapRef.name'), config?.metadata.name);
    const secret = at(from[1], 'secretRef.name');
    const own = manifests.find(({ kind, metadata }) => kind === 'Secret' && metadata.name === secret);
    t.true(secret === 'mine' || own !== undefined);
    const env = at(pod, 'spec.template.spec.containers.0.env') as { name: string; value: string }[];
    const given = {
      ...data,
      ...(at(own, 'stringData') as Record<string, string> | undefined),
      ...Object.fromEntries(env.map(({ name, value }) => [name, value])),
    };
    for (const name of Object.keys(given)) t.true(name in environment.shape, name);
    const { CACHE_DIR, SCRATCH_DIR, HTTP_PORT } = loadConfig(given);
    const mounts = at(pod, 'spec.template.spec.containers.0.volumeMounts') as { mountPath: string }[];
    for (const folder of [CACHE_DIR, SCRATCH_DIR]) {
      t.true(mounts.some(({ mountPath }) => folder.startsWith(`${mountPath}/`)));
    }
    t.is(at(pod, 'spec.template.spec.containers.0.ports.0.containerPort'), HTTP_PORT);
    t.deepEqual(
      ['startupProbe', 'livenessProbe', 'readinessProbe'].map((probe) =>
        at(pod, `spec.template.spec.containers.0.${probe}`),
      ),
      probes,
    );
  }
}

/** Liveness and start ask for the process only, readiness for Redis as well; a minute of silence ends a pod. */
const probes = [
  { httpGet: { path: '/livez', port: 'http' }, periodSeconds: 2, timeoutSeconds: 3, failureThreshold: 30 },
  { httpGet: { path: '/livez', port: 'http' }, periodSeconds: 10, timeoutSeconds: 3, failureThreshold: 6 },
  { httpGet: { path: '/readyz', port: 'http' }, periodSeconds: 5, timeoutSeconds: 2, failureThreshold: 3 },
];

for (const [name, values] of Object.entries(valueSets)) {
  rendered(`the chart renders sound manifests: ${name}`, async (t) => {
    assertSound(t, await render(values));
  });
}

rendered(
  'every manifest is one that Kubernetes, KEDA and the Prometheus Operator know, field by field',
  async (t) => {
    const manifests = (await Promise.all(Object.values(valueSets).map((values) => render(values)))).flat();
    t.deepEqual(await apiFaults(tools as ChartTools, manifests), []);
    t.deepEqual([...new Set(manifests.map(({ kind }) => kind))].toSorted(), [
      'ConfigMap',
      'Deployment',
      'NetworkPolicy',
      'PodDisruptionBudget',
      'PodMonitor',
      'PrometheusRule',
      'ScaledObject',
      'Secret',
      'Service',
      'ServiceAccount',
      'StatefulSet',
      'TriggerAuthentication',
    ]);
  },
);

rendered(
  'the check of the manifests finds an unknown field, a wrong type and a wrong quantity',
  async (t) => {
    const [first] = (await render(valueSets['bare'] ?? [])).filter(({ kind }) => kind === 'Deployment');
    const spoilt = (from: string, to: string) =>
      JSON.parse(JSON.stringify(first).replace(from, to)) as Manifest;
    const faulty = [
      spoilt('"enableServiceLinks"', '"enableServiceLink"'),
      spoilt('"containerPort":8080', '"containerPort":"8080"'),
      spoilt('"memory":"192Mi"', '"memory":"192MiB"'),
    ];
    const faults = (await apiFaults(tools as ChartTools, faulty)).join('\n');
    t.regex(faults, /enableServiceLink"' does not exist/);
    t.regex(faults, /containerPort must be integer/);
    t.regex(faults, /memory must match format "quantity"/);
  },
);

rendered(
  'helm finds nothing to say about the chart, and packs it without the code of the dashboards',
  async (t) => {
    const folder = await temporaryFolder(t);
    const { helm } = tools as ChartTools;
    const set = ['--set', 'secret.existing=mine'];
    const linted = await run(helm, ['lint', '--strict', '--quiet', chartFolder, ...set]);
    t.notRegex(linted.stdout, /WARNING|ERROR/);
    await run(helm, ['package', chartFolder, '--destination', folder]);
    const { version } = JSON.parse(read('package.json')) as { version: string };
    const archive = join(folder, `roboflow-worker-${version}.tgz`);
    const files = (await run('tar', ['-tzf', archive])).stdout.trim().split('\n');
    t.deepEqual(
      files.filter((file) => /\.(ts|mjs|png)$/.test(file)),
      [],
    );
    t.true(files.filter((file) => file.includes('/dashboards/')).length >= 4);
    const values = valueSets['watched'] ?? [];
    t.deepEqual(await render(values, archive), await render(values));
  },
);

rendered('the notes say how to reach the release and warn of open roots', async (t) => {
  const notes = async (...set: string[]) =>
    (
      await run((tools as ChartTools).helm, [
        'install',
        'fleet',
        chartFolder,
        '--namespace=robots',
        '--dry-run=client',
        ...['secret.existing=mine', ...set].flatMap((value) => ['--set', value]),
      ])
    ).stdout
      .split('NOTES:')
      .at(-1) ?? '';
  const open = await notes('autoscaling.enabled=true');
  t.regex(open, /kubectl -n robots port-forward svc\/fleet-roboflow-worker 8080:80/);
  t.regex(open, /KEDA scales the workers between 0 and 10/);
  t.regex(open, /WARNING: config\.SOURCE_ROOTS/);
  const closed = await notes('config.SOURCE_ROOTS=s3://raw/', 'config.DESTINATION_ROOTS=s3://datasets/');
  t.notRegex(closed, /WARNING/);
  t.regex(closed, /2 worker pods of 2 conversions each/);
});

rendered('a new chart or a changed label of it does not restart pods, a changed setting does', async (t) => {
  const templates = async (...set: string[]) =>
    (await render([...(valueSets['plain'] ?? []), ...set]))
      .filter(({ kind }) => kind === 'Deployment')
      .map((pod) => at(pod, 'spec.template'));
  const before = await templates();
  t.notRegex(JSON.stringify(before), /helm\.sh\/chart/);
  t.deepEqual(await templates('worker.replicas=5', 'podMonitor.enabled=true'), before);
  t.notDeepEqual(await templates('config.LOG_LEVEL=debug'), before);
  t.notDeepEqual(await templates('redis.url=redis://other:6379'), before);
});

rendered(
  'network policies let in what they must, and pods look up names and reach Redis and S3',
  async (t) => {
    const policies = async (...set: string[]) =>
      (await render([...(valueSets['valkey'] ?? []), ...set])).filter(({ kind }) => kind === 'NetworkPolicy');
    const [own, valkey] = await policies('networkPolicy.from[0].podSelector.matchLabels.app=keda-operator');
    t.deepEqual(at(own, 'spec.ingress'), [
      {
        ports: [{ port: 'http', protocol: 'TCP' }],
        from: [{ podSelector: { matchLabels: { app: 'keda-operator' } } }],
      },
    ]);
    const egress = at(own, 'spec.egress') as {
      ports: { port: number; protocol: string }[];
      to?: unknown[];
    }[];
    t.deepEqual(
      egress.map(({ ports, to }) => [
        ports.map(({ port, protocol }) => `${port}/${protocol}`).join(' '),
        to === undefined,
      ]),
      [
        ['53/UDP 53/TCP', true],
        ['6379/TCP', false],
        ['443/TCP', true],
        ['6379/TCP', true],
      ],
    );
    const pods = (await render(valueSets['valkey'] ?? [])).filter(({ kind }) =>
      ['Deployment', 'StatefulSet'].includes(kind),
    );
    const selected = (selector: unknown) =>
      pods
        .filter((pod) => {
          const labels = at(pod, 'spec.template.metadata.labels') as Record<string, string>;
          const { matchLabels, matchExpressions = [] } = selector as {
            matchLabels: Record<string, string>;
            matchExpressions?: { key: string; values: string[] }[];
          };
          return (
            Object.entries(matchLabels).every(([key, value]) => labels[key] === value) &&
            matchExpressions.every(({ key, values }) => values.includes(labels[key] ?? ''))
          );
        })
        .map(({ metadata }) => metadata.name);
    const worker = ['fleet-roboflow-worker-api', 'fleet-roboflow-worker-worker'];
    t.deepEqual(selected(at(own, 'spec.podSelector')).toSorted(), worker);
    t.deepEqual(selected(at(valkey, 'spec.podSelector')), ['fleet-roboflow-worker-valkey']);
    t.deepEqual(selected(at(egress[1], 'to.0.podSelector')), ['fleet-roboflow-worker-valkey']);
    t.deepEqual(selected(at(valkey, 'spec.ingress.0.from.0.podSelector')).toSorted(), worker);
    const [open] = await policies('networkPolicy.egress.enabled=false');
    t.deepEqual([at(open, 'spec.policyTypes'), at(open, 'spec.egress')], [['Ingress'], undefined]);
  },
);

rendered('an address of Redis with a password stays out of the ConfigMap', async (t) => {
  const address = 'redis.url=redis://:hidden-word@redis:6379';
  const manifests = await render([token, address]);
  const holders = manifests.filter((manifest) => JSON.stringify(manifest).includes('hidden-word'));
  t.deepEqual(
    holders.map(({ kind }) => kind),
    ['Secret'],
  );
});

rendered(
  'the pods of a worker ask for what their slots need, and autoscaling takes the replicas over',
  async (t) => {
    const worker = (manifests: readonly Manifest[]) =>
      manifests.find(({ metadata }) => metadata.name === 'fleet-roboflow-worker-worker');
    const plain = (await render([...(valueSets['plain'] ?? []), 'worker.slots=4'])).filter(
      ({ kind }) => kind === 'Deployment',
    );
    const resources = at(worker(plain), 'spec.template.spec.containers.0.resources');
    t.is(at(resources, 'requests.cpu'), '4100m');
    t.is(at(resources, 'requests.memory'), '3328Mi');
    t.is(at(resources, 'limits.memory'), '3328Mi');
    t.is(at(resources, 'limits.cpu'), undefined);
    t.is(at(resources, 'requests.ephemeral-storage'), '20Gi');
    t.is(at(worker(plain), 'spec.replicas'), 2);

    const scaled = await render(valueSets['autoscaled'] ?? []);
    const deployment = scaled.find(
      ({ kind, metadata }) => kind === 'Deployment' && metadata.name.endsWith('-worker-worker'),
    );
    t.is(at(deployment, 'spec.replicas'), undefined);
    t.is(at(deployment, 'spec.template.spec.terminationGracePeriodSeconds'), 25);
    t.true((at(deployment, 'spec.template.spec.tolerations') as unknown[]).length >= 2);
    t.is(at(deployment, 'spec.template.spec.priorityClassName'), 'batch');
    t.regex(String(at(deployment, 'spec.template.spec.containers.0.image')), /^roboflow-worker@sha256:/);
    const object = scaled.find(({ kind }) => kind === 'ScaledObject');
    t.is(at(object, 'spec.scaleTargetRef.name'), deployment?.metadata.name);
    t.is(at(object, 'spec.triggers.0.metadata.url'), 'http://fleet-roboflow-worker.robots.svc:80/v1/scaling');
    const authentication = scaled.find(({ kind }) => kind === 'TriggerAuthentication');
    t.is(at(object, 'spec.triggers.0.authenticationRef.name'), authentication?.metadata.name);
    t.is(at(authentication, 'spec.secretTargetRef.0.name'), 'mine');
  },
);

rendered('the cache of recordings takes half of the scratch volume, whatever its size', async (t) => {
  const cache = async (...set: string[]) => {
    const worker = (await render([...(valueSets['plain'] ?? []), ...set])).find(
      ({ kind, metadata }) => kind === 'Deployment' && metadata.name.endsWith('-worker-worker'),
    );
    const env = at(worker, 'spec.template.spec.containers.0.env') as { name: string; value: string }[];
    return env.find(({ name }) => name === 'CACHE_MAX_BYTES')?.value;
  };
  t.is(await cache(), String(10 * 2 ** 30));
  t.is(await cache('worker.scratch.size=512Mi'), String(2 ** 28));
  t.is(await cache('worker.scratch.size=1.5T'), '750000000000');
  t.is(await cache('config.CACHE_MAX_BYTES=53687091200'), undefined);
  const [config] = (
    await render([...(valueSets['plain'] ?? []), 'config.CACHE_MAX_BYTES=53687091200'])
  ).filter(({ kind }) => kind === 'ConfigMap');
  t.is(at(config, 'data.CACHE_MAX_BYTES'), '53687091200');
});

rendered('rules and dashboards in the chart are those of the repository', async (t) => {
  const manifests = await render(valueSets['watched'] ?? []);
  const rule = manifests.find(({ kind }) => kind === 'PrometheusRule');
  t.deepEqual(rule?.['spec'], parse(read('deploy/prometheus/roboflow.rules.yml')));
  const shown = manifests.filter(({ metadata }) => metadata.labels?.['grafana_dashboard'] === '1');
  const files = readdirSync(join(root, 'deploy', 'grafana')).filter((name) => name.endsWith('.json'));
  t.is(shown.length, files.length);
  for (const name of files) {
    const text = shown
      .map((manifest) => at(manifest, 'data') as Record<string, string>)
      .find((data) => name in data);
    t.deepEqual(JSON.parse(text?.[name] ?? 'null'), JSON.parse(read(join('deploy', 'grafana', name))), name);
  }
});

const refusals: Readonly<Record<string, { readonly values: readonly string[]; readonly says: RegExp }>> = {
  'an unknown value': { values: ['worker.slotz=2'], says: /slotz/ },
  'no slots': { values: ['worker.slots=0'], says: /slots/ },
  'a variable the service does not know': { values: ['config.WORKER=2'], says: /WORKER/ },
  'a short token': { values: ['secret.apiToken=short'], says: /at least 16 characters/ },
  'no Redis': { values: ['redis.url='], says: /no Redis/ },
  'a size without unit': { values: ['worker.scratch.size=20'], says: /size/ },
  'a bound below the other': {
    values: ['autoscaling.enabled=true', 'autoscaling.minReplicas=11'],
    says: /greater/,
  },
  'a root that is no URL': { values: ['config.SOURCE_ROOTS=/data'], says: /SOURCE_ROOTS/ },
  'a setting that is no number': { values: ['config.JOB_ATTEMPTS=often'], says: /JOB_ATTEMPTS/ },
  'a secret among the settings': {
    values: ['config.AWS_SECRET_ACCESS_KEY=x'],
    says: /AWS_SECRET_ACCESS_KEY/,
  },
  'a switch that is no switch': { values: ['networkPolicy.enabled=maybe'], says: /networkPolicy/ },
  'a scrape faster than its time limit': {
    values: ['podMonitor.enabled=true', 'podMonitor.interval=2s'],
    says: /interval/,
  },
  'a monitor of metrics that are off': {
    values: ['podMonitor.enabled=true', 'config.METRICS_ENABLED=false'],
    says: /METRICS_ENABLED/,
  },
  "a password of Redis beside a Secret of one's own": {
    values: ['secret.existing=mine', 'redis.url=redis://:word@redis:6379'],
    says: /into the Secret/,
  },
};
for (const [name, { values, says }] of Object.entries(refusals)) {
  rendered(`the chart refuses ${name}`, async (t) => {
    const error = await t.throwsAsync(render([...(valueSets['plain'] ?? []), ...values]));
    t.regex(error?.message ?? '', says);
  });
}

test('the schema of the values knows every value, and every setting in it is one of the service', (t) => {
  type Schema = { properties?: Record<string, Schema>; $ref?: string; definitions?: Record<string, Schema> };
  const schema = JSON.parse(read('deploy/helm/roboflow-worker/values.schema.json')) as Schema;
  const values = parse(read('deploy/helm/roboflow-worker/values.yaml')) as Node;
  const resolve = (part: Schema | undefined): Schema | undefined =>
    part?.$ref === undefined ? part : schema.definitions?.[part.$ref.replace('#/definitions/', '')];
  const visit = (value: unknown, part: Schema | undefined, path: string): void => {
    t.truthy(part, path);
    const properties = resolve(part)?.properties;
    if (properties === undefined || typeof value !== 'object' || value === null) return;
    for (const [key, inner] of Object.entries(value)) visit(inner, properties[key], `${path}.${key}`);
  };
  visit(values, schema, 'values');
  // The chart sets these itself, or takes them from the Secret.
  const elsewhere =
    /^(REDIS_URL|WORKERS|HTTP_|API_TOKEN|SCRATCH_DIR|CACHE_DIR|SHUTDOWN_|AWS_(ACCESS|SECRET|SESSION)_)/;
  t.deepEqual(
    Object.keys(schema.properties?.['config']?.properties ?? {}).toSorted(),
    Object.keys(environment.shape)
      .filter((name) => !elsewhere.test(name))
      .toSorted(),
  );
});
