import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { InputError } from '../errors.ts';

/** A server that answers. */
export type Listening = {
  readonly server: Server;
  /** The port it got, when 0 was asked for. */
  readonly port: number;
  /** Takes no new connection, lets running answers end for `graceMs` (default 5 s), then cuts them. */
  close(options?: { graceMs?: number }): Promise<void>;
};

/** Serves `app` on `host`:`port`. Throws `InputError` when the address cannot be taken. */
export async function listen(
  app: { callback(): RequestListener },
  address: { host: string; port: number },
): Promise<Listening> {
  const server = createServer(app.callback());
  server.headersTimeout = 10_000;
  server.requestTimeout = 60_000;
  // longer than the idle timeout of usual load balancers (60 s), which would else see resets
  server.keepAliveTimeout = 65_000;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => {
      reject(new InputError(`cannot listen on ${address.host}:${address.port}: ${cause.message}`, { cause }));
    });
    server.listen(address.port, address.host, resolve);
  });
  const { port } = server.address() as AddressInfo;
  return { server, port, close: (options) => closeServer(server, options?.graceMs ?? 5000) };
}

async function closeServer(server: Server, graceMs: number): Promise<void> {
  if (!server.listening) return;
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), graceMs);
  await closed;
  clearTimeout(timer);
}
