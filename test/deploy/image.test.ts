import { execFile } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test from 'ava';
import { parse } from 'yaml';
import { environment } from '../../src/config.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const known = new Set(Object.keys(environment.shape));
const { imageFiles, notInImage } = (await import(join(root, 'deploy', 'local', 'image-tree.mjs'))) as {
  imageFiles: string[];
  notInImage: string[];
};

/** One build stage: its name (the last one has none) and its instructions, continuation lines joined. */
type BuildStage = { readonly name: string; readonly instructions: readonly string[] };

function buildStages(): BuildStage[] {
  const lines = read('deploy/Dockerfile')
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .join('\n')
    .replaceAll(/\\\n\s*/g, '')
    .split('\n')
    .filter((line) => line.trim() !== '');
  const stages: { name: string; instructions: string[] }[] = [];
  for (const line of lines) {
    if (line.startsWith('FROM '))
      stages.push({ name: / AS (\w+)/.exec(line)?.[1] ?? '', instructions: [line] });
    else stages.at(-1)?.instructions.push(line);
  }
  return stages;
}

const stages = buildStages();
const stage = (name: string) => stages.find((candidate) => candidate.name === name)?.instructions ?? [];
const find = (instructions: readonly string[], word: string) =>
  instructions.filter((line) => line.startsWith(`${word} `)).map((line) => line.slice(word.length + 1));

test('the image holds production packages and the files that the assembled tree holds', (t) => {
  const copied = find(stage(''), 'COPY').flatMap((line) => {
    const words = line.split(/\s+/).filter((word) => !word.startsWith('--'));
    return words.slice(0, -1).map((word) => word.replace(/^\/app\//, ''));
  });
  t.deepEqual(copied.toSorted(), [...imageFiles, 'node_modules'].toSorted());
  const [installed] = find(stage('dependencies'), 'RUN');
  t.regex(installed ?? '', /^npm ci --omit=dev /);
  t.true(installed?.endsWith(`&& rm -r ${notInImage.join(' ')}`));
  t.true(stage('').some((line) => line.includes('--from=dependencies /app/node_modules')));
});

test('the build context offers every file that the image is built from, and no others', (t) => {
  const offered = read('.dockerignore')
    .split('\n')
    .filter((line) => line.startsWith('!'));
  const patterns = offered.map((line) => line.slice(1));
  const wanted = stages.flatMap(({ instructions }) =>
    find(instructions, 'COPY')
      .filter((line) => !line.includes('--from='))
      .flatMap((line) => line.split(/\s+/).slice(0, -1)),
  );
  for (const path of wanted) {
    t.true(existsSync(join(root, path)), path);
    const covered = patterns.some((pattern) => pattern === path || pattern.startsWith(`${path}/`));
    t.true(covered, `${path} is not in the build context`);
  }
  for (const pattern of patterns) {
    t.true(existsSync(join(root, pattern.replace(/\/\*\.ts$/, ''))), pattern);
  }
});

test('the image runs unprivileged, starts and is probed without a shell, and sets only variables of the service', (t) => {
  const runtime = stage('runtime');
  t.regex(find(runtime, 'USER')[0] ?? '', /^[1-9]\d*:[1-9]\d*$/);
  for (const word of ['ENTRYPOINT', 'CMD'])
    t.true(Array.isArray(JSON.parse(find(runtime, word)[0] ?? '""')), word);
  const probe = /CMD (\[.*\])/.exec(find(runtime, 'HEALTHCHECK')[0] ?? '')?.[1] ?? '""';
  t.is((JSON.parse(probe) as string[])[0], 'node');
  const names = [...(find(runtime, 'ENV')[0] ?? '').matchAll(/(\w+)=/g)].map((match) => match[1] ?? '');
  t.true(names.length > 3);
  for (const name of names) t.true(known.has(name) || /^(NODE_ENV|TMPDIR)$/.test(name), name);
  t.regex(read('deploy/Dockerfile'), /^ARG NODE_IMAGE=node:\d+\.\d+\.\d+-\w+-slim$/m);
});

test('package, image and chart carry the same version', (t) => {
  const { version } = JSON.parse(read('package.json')) as { version: string };
  const chart = parse(read('deploy/helm/roboflow-worker/Chart.yaml')) as {
    appVersion: string;
    version: string;
  };
  t.deepEqual([chart.appVersion, chart.version], [version, version]);
  t.true(stage('').includes(`ARG VERSION=${version}`));
  const tags =
    read('docker-compose.yml').match(/roboflow-worker(-demo)?:\$\{ROBOFLOW_VERSION:-[^}]*\}/g) ?? [];
  t.deepEqual(
    tags.map((tag) => tag.split(':-')[1]),
    [`${version}}`, `${version}}`],
  );
  t.true(read('deploy/README.md').includes(`roboflow-worker:${version} .`));
});

test('the npm package holds the program, its types, the rules and the dashboards, and no sources or tests', async (t) => {
  // Without the build that comes before packing: other tests read the files it would write.
  const args = ['pack', '--dry-run', '--json', '--ignore-scripts'];
  const { stdout } = await promisify(execFile)('npm', args, {
    cwd: root,
    maxBuffer: 16 * 1024 * 1024,
  });
  const [packed] = Object.values(JSON.parse(stdout) as { files: { path: string }[] }[]);
  const paths = packed?.files.map(({ path }) => path) ?? [];
  const manifest = JSON.parse(read('package.json')) as { bin: Record<string, string> };
  for (const path of Object.values(manifest.bin)) t.true(paths.includes(path), path);
  t.regex(read('dist/src/cli.js'), /^#!\/usr\/bin\/env node\n/);
  for (const path of ['LICENSE', 'README.md', 'CHANGELOG.md', 'deploy/prometheus/roboflow.rules.yml']) {
    t.true(paths.includes(path), path);
  }
  t.true(paths.some((path) => /^deploy\/grafana\/.*\.json$/.test(path)));
  const strange = paths.filter(
    (path) => !/^(dist\/src\/.*\.(js|d\.ts|js\.map)|[^.].*\.(md|yml|json)|LICENSE)$/.test(path),
  );
  t.deepEqual(strange.toSorted(), ['dist/src/bundled/LICENSES.txt', 'dist/src/bundled/cli.cjs']);
});

type Service = {
  readonly image?: string;
  readonly build?: { readonly dockerfile: string; readonly target?: string };
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly ports?: readonly string[];
  readonly volumes?: readonly string[];
  readonly configs?: readonly { readonly source: string; readonly target: string }[];
  readonly depends_on?: readonly string[] | Readonly<Record<string, { readonly condition: string }>>;
  readonly healthcheck?: unknown;
};
type Compose = {
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, unknown>>;
  readonly configs: Readonly<Record<string, { readonly content: string }>>;
};

const compose = parse(read('docker-compose.yml'), { merge: true }) as Compose;
const services = Object.entries(compose.services);
/** The default of a `${NAME:-default}`. */
const settled = (value: string) => value.replaceAll(/\$\{\w+:-([^}]*)\}/g, '$1');

test('compose mounts files and volumes that exist and depends on services that are there', (t) => {
  for (const [name, service] of services) {
    for (const volume of service.volumes ?? []) {
      const from = volume.split(':')[0] ?? '';
      if (from.startsWith('./')) t.true(existsSync(join(root, from)), `${name}: ${from}`);
      else if (!from.startsWith('/')) t.true(from in compose.volumes, `${name}: ${from}`);
    }
    for (const { source } of service.configs ?? []) t.true(source in compose.configs, `${name}: ${source}`);
    const needs = service.depends_on ?? [];
    for (const needed of Array.isArray(needs) ? needs : Object.keys(needs)) {
      t.true(needed in compose.services, `${name}: ${needed}`);
    }
    const target = service.build?.target;
    if (target !== undefined)
      t.true(
        stages.some((candidate) => candidate.name === target),
        target,
      );
    t.notRegex(service.image ?? '', /:latest$|^[^:]+$/, `${name} is pinned`);
  }
});

test('compose sets variables that the service knows to values that it accepts', (t) => {
  for (const name of ['api', 'worker', 'demo']) {
    const given = compose.services[name]?.environment ?? {};
    const own = Object.fromEntries(Object.entries(given).filter(([key]) => known.has(key)));
    const extra = Object.keys(given).filter((key) => !known.has(key));
    t.deepEqual(extra, name === 'demo' ? ['API_URL', 'DEMO_FOLDER'] : [], name);
    const values = Object.fromEntries(Object.entries(own).map(([key, value]) => [key, settled(value)]));
    t.true(environment.safeParse(values).success, name);
    const policy = compose.services['redis']?.command?.join(' ') ?? '';
    t.regex(policy, /--appendonly yes .*--maxmemory-policy noeviction/);
  }
});

test('compose publishes on loopback only, each port once, and the ports its own settings name', (t) => {
  const published = services.flatMap(([, service]) => service.ports ?? []);
  for (const port of published) t.regex(port, /^127\.0\.0\.1:\d+:\d+$/);
  const hostPorts = published.map((port) => port.split(':')[1]);
  t.deepEqual(hostPorts, [...new Set(hostPorts)]);
  const image = find(stage('runtime'), 'EXPOSE')[0] ?? '';
  t.true(compose.services['api']?.ports?.[0]?.endsWith(`:${image}`));
  t.regex(compose.configs['prometheus']?.content ?? '', new RegExp(`port: ${image}\\b`));
  const endpoint = new URL(compose.services['worker']?.environment?.['AWS_ENDPOINT_URL_S3'] ?? '');
  t.true(endpoint.hostname in compose.services);
  t.true(compose.services['s3']?.ports?.[0]?.endsWith(`:${endpoint.port}`));
});

test('the settings inside the compose file find the rules, the dashboards and each other', (t) => {
  const prometheus = parse(compose.configs['prometheus']?.content ?? '') as {
    rule_files: string[];
    scrape_configs: { job_name: string; dns_sd_configs: { names: string[] }[] }[];
  };
  const folder = compose.services['prometheus']?.volumes?.find((volume) => volume.startsWith('./')) ?? '';
  const [from, into] = folder.split(':');
  for (const file of prometheus.rule_files) {
    t.true(file.startsWith(`${into}/`), file);
    t.true(existsSync(join(root, from ?? '', file.slice((into ?? '').length))), file);
  }
  for (const name of prometheus.scrape_configs[0]?.dns_sd_configs[0]?.names ?? []) {
    t.true(name in compose.services, name);
  }
  const source = parse(compose.configs['grafana-datasource']?.content ?? '') as {
    datasources: { url: string }[];
  };
  t.true(new URL(source.datasources[0]?.url ?? '').hostname in compose.services);
  const provider = parse(compose.configs['grafana-dashboards']?.content ?? '') as {
    providers: { options: { path: string } }[];
  };
  const mounts = compose.services['grafana']?.volumes?.map((volume) => volume.split(':')) ?? [];
  const dashboards = mounts.find(([, target]) => target === provider.providers[0]?.options.path)?.[0] ?? '';
  t.true(readdirSync(join(root, dashboards)).some((name) => name.endsWith('.json')));
});
