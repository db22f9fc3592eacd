import type { Context } from 'koa';
import { type ParseError, parse as findFaults } from 'jsonc-parser';
import type { z } from 'zod';
import { toError } from '../errors.ts';
import { faultsOf, Problem } from './problem.ts';

/** Largest request body accepted when a route says nothing else: 16 MiB, some 100,000 recordings. */
export const BODY_LIMIT_BYTES = 16 * 1024 * 1024;

/**
 * The JSON body of a request as `schema` makes it.
 * Throws `Problem`: 415 (not JSON), 413 (larger than `limit` bytes), 400 (not parseable), 422 (every field fault listed).
 */
export async function parseBody<S extends z.ZodType>(
  ctx: Context,
  schema: S,
  options: { limit?: number } = {},
): Promise<z.output<S>> {
  const json = await readJson(ctx, options.limit ?? BODY_LIMIT_BYTES);
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const errors = faultsOf(parsed.error);
  throw new Problem(422, sentence('the request body', errors), { errors });
}

/** The query of a request as `schema` makes it; 400 with pointers below `/query`. Repeated keys arrive as arrays. */
export function parseQuery<S extends z.ZodType>(ctx: Context, schema: S): z.output<S> {
  return parsePart({ ...ctx.query }, schema, 'query');
}

/** Path parameters as `schema` makes them; 400 with pointers below `/params`. */
export function parseParams<S extends z.ZodType>(
  ctx: { params: Readonly<Record<string, string>> },
  schema: S,
): z.output<S> {
  return parsePart({ ...ctx.params }, schema, 'params');
}

function parsePart<S extends z.ZodType>(value: unknown, schema: S, part: string): z.output<S> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const errors = faultsOf(parsed.error, `/${part}`);
  throw new Problem(400, sentence(`the ${part}`, errors), { errors });
}

function sentence(where: string, errors: readonly { pointer: string; detail: string }[]): string {
  const first = errors[0];
  if (first === undefined) return `${where} is not valid`;
  const more = errors.length > 1 ? ` (and ${errors.length - 1} more)` : '';
  return `${where} is not valid: ${first.pointer === '' ? '' : `${first.pointer}: `}${first.detail}${more}`;
}

async function readJson(ctx: Context, limit: number): Promise<unknown> {
  if (!ctx.is('json', '+json')) {
    const found = ctx.get('Content-Type') || 'none';
    throw new Problem(415, `expected Content-Type application/json, found ${found.slice(0, 100)}`);
  }
  const { charset } = ctx.request;
  if (charset !== '' && charset.toLowerCase() !== 'utf-8') {
    throw new Problem(415, `expected JSON in UTF-8, found charset ${charset.slice(0, 100)}`);
  }
  const encoding = ctx.get('Content-Encoding');
  if (encoding !== '' && encoding !== 'identity') {
    throw new Problem(415, `expected no Content-Encoding, found ${encoding.slice(0, 100)}`);
  }
  const declared = ctx.request.length;
  if (declared !== undefined && declared > limit) throw tooLarge(limit);
  const bytes = await readAll(ctx, limit);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (thrown) {
    throw new Problem(400, 'expected a JSON body in UTF-8', { cause: toError(thrown) });
  }
  try {
    return JSON.parse(text) as unknown;
  } catch (thrown) {
    throw new Problem(400, `expected a JSON body: ${faultIn(text)}`, { cause: toError(thrown) });
  }
}

async function readAll(ctx: Context, limit: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of ctx.req as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > limit) throw tooLarge(limit);
      chunks.push(chunk);
    }
  } catch (thrown) {
    if (thrown instanceof Problem) throw thrown;
    throw new Problem(400, 'expected the whole body, the connection ended before', {
      cause: toError(thrown),
    });
  }
  return Buffer.concat(chunks);
}

/** What is wrong with a text that is no JSON, and where; the runtime does not always tell. */
function faultIn(text: string): string {
  if (text.trim() === '') return 'it is empty';
  const faults: ParseError[] = [];
  try {
    findFaults(text, faults, { disallowComments: true });
  } catch (thrown) {
    if (thrown instanceof RangeError) return 'it is nested too deeply';
    throw thrown;
  }
  const offset = faults[0]?.offset ?? 0;
  const before = text.slice(0, offset);
  const line = before.split('\n').length;
  const column = offset - before.lastIndexOf('\n');
  const found = text.slice(offset, offset + 20);
  return `line ${line}, column ${column}: unexpected ${found === '' ? 'end' : JSON.stringify(found)}`;
}

/** The connection is closed with the answer, as the rest of the body is not read. */
function tooLarge(limit: number): Problem {
  return new Problem(413, `expected a request body of at most ${limit} bytes`, {
    headers: { Connection: 'close' },
  });
}
