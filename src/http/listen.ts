import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { InputError } from '../errors.ts';
import { Problem, titleOf } from './problem.ts';

/** A server that answers. */
export type Listening = {
  readonly server: Server;
  /** The port it got, when 0 was asked for. */
  readonly port: number;
  /** Takes no new connection, lets running answers end for `graceMs` (default 5 s), then cuts them. */
  close(options?: { graceMs?: number }): Promise<void>;
};

/** How long a refused connection may take to read why. */
const LINGER_MS = 1000;

/** Serves `app` on `host`:`port`. Throws `InputError` when the address cannot be taken. */
export async function listen(
  app: { callback(): RequestListener },
  address: { host: string; port: number },
): Promise<Listening> {
  const answer = app.callback();
  // What the server itself would refuse in words of its own, the application refuses as it refuses all else.
  const server = createServer({ requireHostHeader: false }, answer);
  server.on('checkExpectation', answer);
  server.headersTimeout = 10_000;
  server.requestTimeout = 60_000;
  // longer than the idle timeout of usual load balancers (60 s), which would else see resets
  server.keepAliveTimeout = 65_000;
  server.on('clientError', refuseBroken);
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => {
      reject(new InputError(`cannot listen on ${address.host}:${address.port}: ${cause.message}`, { cause }));
    });
    server.listen(address.port, address.host, resolve);
  });
  const { port } = server.address() as AddressInfo;
  return { server, port, close: (options) => closeServer(server, options?.graceMs ?? 5000) };
}

/**
 * What never became a request is a problem like any other refusal. The server forgets the connection with this, so it is
 * cut here when the client does not close its end.
 */
function refuseBroken(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const problem =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? new Problem(431, 'expected request headers of at most 16 KiB')
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? new Problem(408, 'expected the whole request within its time')
        : new Problem(400, 'expected an HTTP/1.1 request');
  const body = JSON.stringify(problem.toBody());
  socket.end(
    `HTTP/1.1 ${problem.status} ${titleOf(problem.status)}\r\nContent-Type: application/problem+json\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
  setTimeout(() => socket.destroy(), LINGER_MS).unref();
}

async function closeServer(server: Server, graceMs: number): Promise<void> {
  if (!server.listening) return;
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), graceMs);
  await closed;
  clearTimeout(timer);
}
