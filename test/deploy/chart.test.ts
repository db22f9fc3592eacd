import { execFile } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { parse, parseAllDocuments } from 'yaml';
import { environment, loadConfig } from '../../src/config.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const chart = join(root, 'deploy', 'helm', 'roboflow-worker');
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const { findProgram } = (await import(join(root, 'deploy', 'local', 'programs.mjs'))) as {
  findProgram: (name: string) => string | undefined;
};
const helm = findProgram('helm');
const rendered = helm === undefined ? test.skip : test;
if (helm === undefined)
  test('the chart is rendered where helm is installed', (t) => {
    t.log('helm is not in PATH: the tests that render the chart are skipped');
    t.pass();
  });

type Node = { readonly [key: string]: unknown };
type Manifest = Node & {
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly labels?: Readonly<Record<string, string>> };
};

/** Value by dotted path; numbers index arrays. */
function at(node: unknown, path: string): unknown {
  return path
    .split('.')
    .reduce<unknown>((value, key) => (value as Readonly<Record<string, unknown>> | undefined)?.[key], node);
}

async function render(values: readonly string[]): Promise<Manifest[]> {
  const flags = values.flatMap((value) => ['--set', value]);
  const { stdout } = await promisify(execFile)(
    helm ?? '',
    ['template', 'fleet', chart, '--namespace', 'robots', '--kube-version', '1.31.0', ...flags],
    { maxBuffer: 64 * 1024 * 1024 },
  );
  return parseAllDocuments(stdout).flatMap((document) => {
    if (document.errors.length > 0) throw document.errors[0] as Error;
    const manifest = document.toJS() as Manifest | null;
    return manifest === null ? [] : [manifest];
  });
}

const token = 'secret.apiToken=0123456789abcdef';
const valueSets: Readonly<Record<string, readonly string[]>> = {
  plain: [token, 'redis.url=redis://redis:6379'],
  valkey: [token, 'valkey.enabled=true', 'networkPolicy.enabled=false'],
  autoscaled: [
    'secret.existing=mine',
    'autoscaling.enabled=true',
    'spot.enabled=true',
    'worker.scratch.storageClass=fast',
  ],
  watched: [
    'secret.existing=mine',
    'podMonitor.enabled=true',
    'prometheusRule.enabled=true',
    'dashboards.enabled=true',
  ],
  bare: [
    'secret.existing=mine',
    'podDisruptionBudget.enabled=false',
    'networkPolicy.enabled=false',
    'serviceAccount.create=false',
  ],
};

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
  for (const name of Object.keys(data)) t.true(name in environment.shape, name);
  t.notThrows(() => loadConfig(data));
  for (const pod of pods.filter(({ kind }) => kind === 'Deployment')) {
    const from = at(pod, 'spec.template.spec.containers.0.envFrom') as Node[];
    t.is(at(from[0], 'configMapRef.name'), config?.metadata.name);
    const secret = at(from[1], 'secretRef.name');
    t.true(secret === 'mine' || ids.includes(`Secret/${String(secret)}`));
  }
}

for (const [name, values] of Object.entries(valueSets)) {
  rendered(`the chart renders sound manifests: ${name}`, async (t) => {
    assertSound(t, await render(values));
  });
}

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
    t.is(at(worker(plain), 'spec.replicas'), 2);

    const scaled = await render(valueSets['autoscaled'] ?? []);
    const deployment = scaled.find(
      ({ kind, metadata }) => kind === 'Deployment' && metadata.name.endsWith('-worker-worker'),
    );
    t.is(at(deployment, 'spec.replicas'), undefined);
    t.is(at(deployment, 'spec.template.spec.terminationGracePeriodSeconds'), 110);
    t.true((at(deployment, 'spec.template.spec.tolerations') as unknown[]).length >= 3);
    const object = scaled.find(({ kind }) => kind === 'ScaledObject');
    t.is(at(object, 'spec.scaleTargetRef.name'), deployment?.metadata.name);
    t.is(at(object, 'spec.triggers.0.metadata.url'), 'http://fleet-roboflow-worker.robots.svc:80/v1/scaling');
    const authentication = scaled.find(({ kind }) => kind === 'TriggerAuthentication');
    t.is(at(object, 'spec.triggers.0.authenticationRef.name'), authentication?.metadata.name);
    t.is(at(authentication, 'spec.secretTargetRef.0.name'), 'mine');
  },
);

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
  for (const name of Object.keys(schema.properties?.['config']?.properties ?? {})) {
    t.true(name in environment.shape, name);
  }
});
