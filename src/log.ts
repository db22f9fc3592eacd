import { createRequire } from 'node:module';
import { pino, type DestinationStream, type Logger } from 'pino';
import type Pretty from 'pino-pretty';
import { InputError } from './errors.ts';

/** How the log is written. */
export type LogOptions = {
  readonly level: 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'silent';
  /** `json`: one object a line; `pretty`: for a person at a terminal. */
  readonly format: 'json' | 'pretty';
  /** Default: standard output. */
  readonly destination?: NodeJS.WritableStream;
  /** Fields of every line, such as the worker's slot. */
  readonly bindings?: Readonly<Record<string, unknown>>;
  /** Id of the running trace, when there is one; a field of the lines written within it. */
  readonly traceId?: (() => string | undefined) | undefined;
  /** Values that must never appear, such as the API token. */
  readonly secrets?: readonly string[];
};

/**
 * A logger; child loggers carry `jobId`, `datasetId`, `recording`, `stage`. Secrets are taken out of the finished
 * line, so that it does not matter in which field, message or error text they arrived.
 */
export function createLog(options: LogOptions): Logger {
  const secrets = (options.secrets ?? []).filter((secret) => secret !== '');
  const tooShort = secrets.find((secret) => secret.length < 4);
  if (tooShort !== undefined) {
    throw new InputError(
      `expected secrets of at least 4 characters, found one of ${tooShort.length}: it would blank out ordinary text`,
    );
  }
  return pino(
    {
      level: options.level,
      base: { pid: process.pid, ...options.bindings },
      timestamp: pino.stdTimeFunctions.isoTime,
      ...(options.traceId === undefined ? {} : { mixin: traceOf(options.traceId) }),
      formatters: { level: (label) => ({ level: label }) },
      hooks: { streamWrite: (line) => redact(line, secrets) },
    },
    destinationOf(options),
  );
}

function traceOf(current: () => string | undefined): () => object {
  return () => {
    const traceId = current();
    return traceId === undefined ? {} : { traceId };
  };
}

function destinationOf(options: LogOptions): DestinationStream {
  if (options.format === 'pretty') {
    const stream = options.destination ?? process.stdout;
    let printer: DestinationStream | undefined;
    return { write: (line) => (printer ??= prettyPrinter(stream)).write(line) };
  }
  return options.destination ?? pino.destination({ fd: 1, sync: true });
}

/** Loaded with the first line: most commands never log one. */
function prettyPrinter(stream: NodeJS.WritableStream): DestinationStream {
  const { build } = createRequire(import.meta.url)('pino-pretty') as typeof Pretty;
  return build({
    destination: stream,
    colorize: 'isTTY' in stream && stream.isTTY === true,
    translateTime: 'SYS:HH:MM:ss.l',
    ignore: 'pid',
  });
}

const HIDDEN = '[redacted]';

const SECRET_NAME =
  '((?:proxy-)?authorization|(?:set-)?cookie|pass(?:word|wd)?|secret|(?:api|access|refresh|lock|session|auth|security)?[-_]?token|api[-_]?key|(?:aws[-_]?)?(?:secret[-_]?)?access[-_]?key(?:[-_]?id)?|x-amz-security-token)';
/** A field of the line whose text value is secret. */
const SECRET_FIELD = new RegExp(String.raw`"${SECRET_NAME}":"(?:[^"\\]|\\.)*"`, 'gi');
/** The same inside a text that is JSON itself, its quotes escaped once more. */
const SECRET_FIELD_IN_TEXT = new RegExp(
  String.raw`\\"${SECRET_NAME}\\"\s*:\s*\\"(?:[^"\\]|\\\\(?:\\.|[^"\\]))*\\"`,
  'gi',
);
/** `scheme://user:password@host`; the end of a scheme is enough, and keeps a long word from being read from each letter on. */
const URL_CREDENTIALS = /([a-z][a-z0-9+.-]{0,30}:\/\/)[^\s"'/@]+@/gi;
const BEARER = /\b(bearer)\s+[A-Za-z0-9._~+/=-]{16,}/gi;
const AWS_KEY_ID = /\b(?:AKIA|ASIA)[A-Z0-9]{16}\b/g;
/** Secret parts of presigned URLs and query strings. */
const QUERY_SECRET =
  /([?&](?:x-amz-(?:signature|credential|security-token)|token|api[-_]?key|password)=)[^&\s"\\]+/gi;

/** A line without secrets: named fields, credentials in URLs, tokens, access keys, and the given values. */
export function redact(line: string, secrets: readonly string[] = []): string {
  let text = line
    .replace(SECRET_FIELD, `"$1":"${HIDDEN}"`)
    .replace(SECRET_FIELD_IN_TEXT, String.raw`\"$1\":\"${HIDDEN}\"`)
    .replace(URL_CREDENTIALS, `$1${HIDDEN}@`)
    .replace(BEARER, `$1 ${HIDDEN}`)
    .replace(AWS_KEY_ID, HIDDEN)
    .replace(QUERY_SECRET, `$1${HIDDEN}`);
  for (const secret of secrets) {
    const escaped = escapeJson(secret);
    for (const spelling of [escapeJson(escaped), escaped, secret]) text = text.replaceAll(spelling, HIDDEN);
  }
  return text;
}

function escapeJson(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}
