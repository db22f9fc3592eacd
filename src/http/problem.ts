import { HttpError } from 'koa';
import { z } from 'zod';
import { CanceledError, InputError, StorageError, toError } from '../errors.ts';

/** One fault of a request: a JSON pointer into the body (or `/query/…`, `/params/…`) and a sentence. */
export type FieldFault = { readonly pointer: string; readonly detail: string };

/** The body of every error answer: RFC 9457 `application/problem+json`. */
export const problemBody = z.object({
  title: z.string(),
  status: z.int().min(400).max(599),
  detail: z.string(),
  errors: z.array(z.object({ pointer: z.string(), detail: z.string() })).optional(),
  /** Id of the request, as in the log and in `X-Request-Id`. */
  requestId: z.string().optional(),
});

export type ProblemBody = z.output<typeof problemBody>;

const TITLES: Readonly<Record<number, string>> = {
  400: 'Bad request',
  401: 'Authentication needed',
  403: 'Not allowed',
  404: 'Not found',
  405: 'Method not allowed',
  406: 'Not acceptable',
  408: 'Request timed out',
  409: 'Conflict',
  413: 'Request body too large',
  415: 'Unsupported media type',
  417: 'Expectation failed',
  422: 'Invalid request',
  428: 'Precondition required',
  429: 'Too many requests',
  431: 'Request headers too large',
  500: 'Internal error',
  501: 'Not implemented',
  503: 'Unavailable',
};

/** The short title of a status. */
export function titleOf(status: number): string {
  return TITLES[status] ?? (status < 500 ? 'Request failed' : 'Internal error');
}

/** Thrown by a route to answer with a problem; `detail` is shown to the client. */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly status: number;
  readonly errors: readonly FieldFault[];
  readonly headers: Readonly<Record<string, string | string[]>>;
  constructor(
    status: number,
    detail: string,
    options: {
      errors?: readonly FieldFault[];
      headers?: Readonly<Record<string, string | string[]>>;
      cause?: unknown;
    } = {},
  ) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause });
    this.status = status;
    this.errors = options.errors ?? [];
    this.headers = options.headers ?? {};
  }

  /** What the client gets. */
  toBody(requestId?: string): ProblemBody {
    return {
      title: titleOf(this.status),
      status: this.status,
      detail: this.message,
      ...(this.errors.length > 0 ? { errors: [...this.errors] } : {}),
      ...(requestId === undefined ? {} : { requestId }),
    };
  }
}

/**
 * The answer to anything a route may throw. Our own refusals keep their sentence; what was not expected becomes a
 * 500 that says nothing of its cause (the log does).
 */
export function toProblem(thrown: unknown): Problem {
  if (thrown instanceof Problem) return thrown;
  const error = toError(thrown);
  if (error instanceof InputError) return new Problem(400, error.message, { cause: error });
  if (error instanceof StorageError && error.retryable) return unavailable(error.message, { cause: error });
  if (error instanceof CanceledError && error.reason === 'shutdown') {
    return unavailable('the service is shutting down', { cause: error });
  }
  if (error instanceof HttpError && error.expose) {
    return new Problem(error.status, error.message, { cause: error });
  }
  return new Problem(500, 'an unexpected error happened; the log has it under the request id', {
    cause: error,
  });
}

/** 503 with `Retry-After`: something the service depends on is away for now. */
export function unavailable(
  detail: string,
  options: { retryAfterSeconds?: number; cause?: unknown } = {},
): Problem {
  return new Problem(503, detail, {
    headers: { 'Retry-After': String(options.retryAfterSeconds ?? 5) },
    ...(options.cause === undefined ? {} : { cause: options.cause }),
  });
}

/** 404 of one thing by its id. */
export function notFound(what: string, id: string): Problem {
  return new Problem(404, `no ${what} with the id ${JSON.stringify(id.slice(0, 128))}`);
}

/** Every fault zod found, as JSON pointers below `prefix` (RFC 6901). */
export function faultsOf(error: z.ZodError, prefix = ''): FieldFault[] {
  return error.issues.flatMap((issue) => {
    const pointer = prefix + issue.path.map((part) => `/${escapePointer(String(part))}`).join('');
    if (issue.code === 'unrecognized_keys') {
      return issue.keys.map((key) => ({
        pointer: `${pointer}/${escapePointer(key)}`,
        detail: `unknown key ${JSON.stringify(key)}`,
      }));
    }
    return [{ pointer, detail: issue.message }];
  });
}

function escapePointer(part: string): string {
  return part.replaceAll('~', '~0').replaceAll('/', '~1');
}
