import { createHash, timingSafeEqual } from 'node:crypto';
import { isIP } from 'node:net';
import type { Context, Middleware } from 'koa';
import { Problem } from './problem.ts';

/** Paths that need no token: what scrapers, probes and client generators read. Everything else is protected. */
export const OPEN_PATHS: ReadonlySet<string> = new Set([
  '/metrics',
  '/health',
  '/livez',
  '/readyz',
  '/openapi.json',
]);

/**
 * Who may use the protected routes: with a token those who present it (`Authorization: Bearer`; for the board, which a
 * browser opens, also as the password of Basic), without one only peers on this machine. A page of another origin is
 * refused either way, so that a browser on the machine cannot be made to act for it.
 */
export function authentication(token: string | undefined): Middleware {
  return async (ctx, next) => {
    if (!OPEN_PATHS.has(ctx.path)) {
      refuseForeignOrigin(ctx);
      if (token === undefined) refuseRemote(ctx);
      else demandToken(ctx, token);
    }
    await next();
  };
}

function demandToken(ctx: Context, token: string): void {
  const presented = presentedToken(ctx);
  if (presented !== undefined && equalInConstantTime(presented, token)) return;
  const board = ctx.path === '/queues' || ctx.path.startsWith('/queues/');
  const challenge = presented === undefined ? 'Bearer' : 'Bearer error="invalid_token"';
  throw new Problem(
    401,
    presented === undefined ? 'expected a bearer token, found none' : 'the token is not valid',
    {
      headers: {
        // A header each: browsers do not find Basic behind another challenge of the same header.
        'WWW-Authenticate': board ? [challenge, 'Basic realm="roboflow"'] : challenge,
      },
    },
  );
}

function presentedToken(ctx: Context): string | undefined {
  const [scheme, value] = splitOnce(ctx.get('Authorization'), ' ');
  if (value === undefined) return undefined;
  if (scheme.toLowerCase() === 'bearer') return value.trim();
  if (scheme.toLowerCase() !== 'basic') return undefined;
  return splitOnce(Buffer.from(value.trim(), 'base64').toString('utf8'), ':')[1];
}

/** Digests are compared, so that neither content nor length shows in the time taken. */
function equalInConstantTime(left: string, right: string): boolean {
  return timingSafeEqual(digest(left), digest(right));
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

/** The Host is checked too: a name of someone else's that resolves to this machine is not this machine's. */
function refuseRemote(ctx: Context): void {
  const peer = ctx.req.socket.remoteAddress ?? '';
  const host = ctx.get('Host');
  const name = host.startsWith('[') ? host.slice(1, host.indexOf(']')) : splitOnce(host, ':')[0];
  if (isLoopback(peer) && (name.toLowerCase() === 'localhost' || isLoopback(name))) return;
  throw new Problem(403, 'without API_TOKEN this route answers only on the loopback address');
}

/** Whether an address is this machine's own: 127.0.0.0/8, ::1, or the former mapped into IPv6. */
export function isLoopback(address: string): boolean {
  const plain = address.toLowerCase().replace(/^::ffff:/, '');
  return plain === '::1' || (isIP(plain) === 4 && plain.startsWith('127.'));
}

function refuseForeignOrigin(ctx: Context): void {
  const origin = ctx.get('Origin');
  if (origin === '' || originHost(origin) === ctx.get('Host').toLowerCase()) return;
  throw new Problem(403, 'requests from pages of another origin are not answered');
}

/** undefined for an opaque origin (`null`) or nonsense. */
function originHost(origin: string): string | undefined {
  return URL.canParse(origin) ? new URL(origin).host : undefined;
}

function splitOnce(text: string, separator: string): [string, string | undefined] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + separator.length)];
}
