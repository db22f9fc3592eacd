import { existsSync } from 'node:fs';
import { availableParallelism, tmpdir, userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { InputError } from './errors.ts';
import type { S3Settings } from './storage/types.ts';

/**
 * The environment of the service: one schema, one frozen result. Nothing else in the product reads `process.env`.
 * `.env.example` lists the same variables in the same order with the same defaults.
 */

const KiB = 1024;
const MiB = 1024 * KiB;
const GiB = 1024 * MiB;

const flag = (fallback: boolean) =>
  z
    .enum(['true', 'false'], { error: 'expected true or false' })
    .default(fallback ? 'true' : 'false')
    .transform((value) => value === 'true');

const whole = (options: { fallback: number; min: number; max?: number; unit?: string }) =>
  z
    .string()
    .default(String(options.fallback))
    .transform((text, context) => {
      const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
      const max = options.max ?? Number.MAX_SAFE_INTEGER;
      if (value >= options.min && value <= max) return value;
      const range =
        options.max === undefined ? `of at least ${options.min}` : `from ${options.min} to ${max}`;
      context.addIssue(
        `expected a whole number ${range}${options.unit ? ` (${options.unit})` : ''}, found "${text}"`,
      );
      return z.NEVER;
    });

const prefixes = z
  .string()
  .default('')
  .transform((text, context) => {
    const roots = text.split(',').map((part) => part.trim());
    for (const root of roots) {
      if (root === '' || /^(file:\/\/\/|s3:\/\/[^/]+)/.test(root)) continue;
      context.addIssue(`expected URL prefixes such as file:///data/ or s3://bucket/prefix/, found "${root}"`);
    }
    return roots.filter((root) => root !== '');
  });

/**
 * Whether a store may be asked there: link-local addresses (169.254.0.0/16, fe80::/10, also written as IPv6) are where
 * clouds hand credentials out, and a password in a URL would show up wherever the URL is named.
 */
function isEndpoint(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname, username, password } = new URL(text);
  const linkLocal =
    /^169\.254\.|^\[fe[89ab][0-9a-f]:|^\[::(?:ffff:)?a9fe:|^\[fd00:ec2::254\]$|^metadata\.google\.internal$/i;
  return /^https?:$/.test(protocol) && username === '' && password === '' && !linkLocal.test(hostname);
}

/** Users of one machine share its temporary folder, but not what lies in it. */
const ownFolder = () => `roboflow-worker-${process.getuid?.() ?? userInfo().username}`;

const folder = (name: string) =>
  z
    .string()
    .default(join(tmpdir(), ownFolder(), name))
    .transform((path) => resolve(path));

/** Every variable, in the order of `.env.example`. */
export const environment = z.object({
  REDIS_URL: z
    .string()
    .regex(/^(redis|rediss|unix):/, 'expected redis://host:port, rediss://… or unix:…')
    .refine(
      (url) => passwordsOf(url) !== undefined,
      'expected a URL; of a user or password write % as %25, / as %2F, ? as %3F, # as %23, @ as %40 and : as %3A',
    )
    .default('redis://127.0.0.1:6379'),
  QUEUE_PREFIX: z
    .string()
    .regex(/^[\w{}.:-]{1,64}$/, 'expected up to 64 letters, digits or any of _ . : - { }')
    .default('{roboflow}'),
  WORKERS: whole({
    fallback: availableParallelism(),
    min: 0,
    max: 256,
    unit: 'cluster workers; 0 = API only',
  }),
  HTTP_HOST: z.string().default('127.0.0.1'),
  HTTP_PORT: whole({ fallback: 8080, min: 0, max: 65_535, unit: '0 = any free port' }),
  API_TOKEN: z.string().optional(),
  METRICS_ENABLED: flag(true),
  BOARD_ENABLED: flag(false),
  SOURCE_ROOTS: prefixes,
  DESTINATION_ROOTS: prefixes,
  SCRATCH_DIR: folder('scratch'),
  SCRATCH_KEEP_BYTES: whole({ fallback: 2 * GiB, min: 0, unit: 'bytes' }),
  CACHE_DIR: folder('cache'),
  CACHE_MAX_BYTES: whole({ fallback: 10 * GiB, min: 0, unit: 'bytes; 0 = no cache' }),
  BUFFER_MAX_BYTES: whole({ fallback: 256 * MiB, min: MiB, unit: 'bytes' }),
  UPLOAD_CONCURRENCY: whole({ fallback: 4, min: 1, max: 64 }),
  UPLOAD_MAX_ATTEMPTS: whole({ fallback: 5, min: 1, max: 100 }),
  JOB_ATTEMPTS: whole({ fallback: 4, min: 1, max: 100 }),
  LOCK_DURATION_MS: whole({ fallback: 120_000, min: 1000, unit: 'milliseconds' }),
  STALLED_INTERVAL_MS: whole({ fallback: 30_000, min: 500, unit: 'milliseconds' }),
  SHUTDOWN_GRACE_SECONDS: whole({ fallback: 60, min: 0, max: 86_400, unit: 'seconds' }),
  LOG_LEVEL: z
    .enum(['trace', 'debug', 'info', 'warn', 'error', 'fatal'], {
      error: 'expected trace, debug, info, warn, error or fatal',
    })
    .default('info'),
  LOG_FORMAT: z
    .enum(['json', 'pretty'], { error: 'expected json or pretty' })
    .default(() => (process.stdout.isTTY ? 'pretty' : 'json')),
  OTEL_EXPORTER_OTLP_ENDPOINT: z
    .url({ protocol: /^https?$/, error: 'expected a URL such as http://collector:4318' })
    .optional(),
  AWS_ACCESS_KEY_ID: z.string().optional(),
  AWS_SECRET_ACCESS_KEY: z.string().optional(),
  AWS_SESSION_TOKEN: z.string().optional(),
  AWS_REGION: z.string().default('us-east-1'),
  AWS_ENDPOINT_URL_S3: z
    .url('expected a URL such as http://127.0.0.1:8333')
    .refine(
      isEndpoint,
      'expected http:// or https:// and a host without user, password or link-local address',
    )
    .optional(),
  S3_FORCE_PATH_STYLE: flag(false),
});

/** The service's settings, one field a variable. Folders are absolute, roots are lists. */
export type Config = Readonly<z.output<typeof environment>>;

/**
 * Reads the settings; an empty variable counts as unset. Throws one `InputError` that names every wrong variable.
 */
export function loadConfig(env: Readonly<Record<string, string | undefined>> = process.env): Config {
  const given = Object.fromEntries(
    Object.keys(environment.shape).flatMap((name) => (env[name] ? [[name, env[name]]] : [])),
  );
  const parsed = environment.safeParse(given);
  if (parsed.success) return Object.freeze(parsed.data);
  const faults = parsed.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
  throw new InputError(`the environment has ${faults.length} wrong value(s):\n  ${faults.join('\n  ')}`);
}

/** Adds the variables of a `.env` file in the working directory, when there is one; set variables win. */
export function loadEnvFile(path = '.env'): void {
  if (existsSync(path)) process.loadEnvFile(path);
  // The AWS SDK announces on standard error, once a process, that its versions of 2027 will not run on Node 20. The
  // version we bring does, and who runs the service can do nothing about it. This is the SDK's own switch for that one
  // warning; `false` in the environment brings it back.
  process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] ??= 'true';
}

/** The S3 settings of the environment. */
export function s3Settings(config: Config): S3Settings {
  return {
    region: config.AWS_REGION,
    forcePathStyle: config.S3_FORCE_PATH_STYLE,
    ...(config.AWS_ENDPOINT_URL_S3 === undefined ? {} : { endpoint: config.AWS_ENDPOINT_URL_S3 }),
    ...(config.AWS_ACCESS_KEY_ID === undefined || config.AWS_SECRET_ACCESS_KEY === undefined
      ? {}
      : {
          credentials: {
            accessKeyId: config.AWS_ACCESS_KEY_ID,
            secretAccessKey: config.AWS_SECRET_ACCESS_KEY,
            ...(config.AWS_SESSION_TOKEN === undefined ? {} : { sessionToken: config.AWS_SESSION_TOKEN }),
          },
        }),
  };
}

/** The slot of this cluster worker, as its primary numbered it. */
export function workerSlot(env: Readonly<Record<string, string | undefined>> = process.env): number {
  return Number(env['ROBOFLOW_WORKER_SLOT'] ?? 0);
}

/** Values that must never reach a log. */
export function secretsOf(config: Config): string[] {
  const { API_TOKEN, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN } = config;
  const found = [
    API_TOKEN,
    AWS_SECRET_ACCESS_KEY,
    AWS_SESSION_TOKEN,
    ...(passwordsOf(config.REDIS_URL) ?? []),
  ];
  return found.filter((secret): secret is string => secret !== undefined && secret.length >= 4);
}

/** Passwords of a URL of Redis, in each place where one may stand; undefined where it is no URL. */
function passwordsOf(text: string): string[] | undefined {
  try {
    const { username, password, searchParams } = new URL(text);
    decodeURIComponent(username);
    return [decodeURIComponent(password), ...searchParams.getAll('password')];
  } catch {
    return undefined;
  }
}
