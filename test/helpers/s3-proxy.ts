import { once } from 'node:events';
import { Agent, createServer, request, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** What is done to one request instead of passing it on as it is. */
export type Fault =
  /** No answer ever. */
  | { readonly kind: 'stall' }
  /** The connection is reset before the store hears of the request. */
  | { readonly kind: 'reset' }
  /** The store acts, its answer is lost. */
  | { readonly kind: 'lose-answer' }
  /** An answer of the proxy's own. */
  | { readonly kind: 'answer'; readonly status: number; readonly code: string }
  /** The answer breaks off after so many bytes of its body, or stops moving there. */
  | { readonly kind: 'truncate' | 'stall-body'; readonly after: number }
  /** One bit of the request's body is flipped. */
  | { readonly kind: 'corrupt' }
  /** Passed on later. */
  | { readonly kind: 'latency'; readonly ms: number };

/** A request as the proxy saw it; bytes are those of bodies, `sent` as handed to the client's connection. */
export type Seen = {
  readonly method: string;
  readonly url: string;
  readonly range: string | undefined;
  readonly received: number;
  readonly sent: number;
  /** 0 when no answer of the store was passed on. */
  readonly status: number;
};

/** An HTTP proxy before an S3 server that counts, and fails as `plan` says. */
export type S3Proxy = {
  readonly endpoint: string;
  readonly seen: Seen[];
  plan: (method: string, url: string) => Fault | undefined;
  stop(): Promise<void>;
};

/** Starts a proxy before `endpoint`. */
export async function startS3Proxy(endpoint: string): Promise<S3Proxy> {
  const target = new URL(endpoint);
  const agent = new Agent({ keepAlive: true });
  const seen: Seen[] = [];
  const server = createServer((incoming, outgoing) => {
    // a reset of our own making, or the client's, ends the exchange; what came through is in `seen`
    handle(incoming, outgoing).catch(() => incoming.socket.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const proxy: S3Proxy = {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    plan: () => undefined,
    stop: async () => {
      agent.destroy();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return proxy;

  async function handle(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const { method = '', url = '' } = incoming;
    const fault = proxy.plan(method, url);
    let [received, sent, status] = [0, 0, 0];
    const chunks: Buffer[] = [];
    try {
      if (fault?.kind === 'reset') {
        incoming.socket.resetAndDestroy();
        return;
      }
      for await (const chunk of incoming as AsyncIterable<Buffer>) {
        received += chunk.length;
        chunks.push(chunk);
      }
      const body = Buffer.concat(chunks);
      if (fault?.kind === 'stall') return;
      if (fault?.kind === 'latency') await delay(fault.ms);
      if (fault?.kind === 'answer') {
        status = fault.status;
        outgoing.writeHead(fault.status, { 'content-type': 'application/xml' });
        const xml = `<?xml version="1.0"?><Error><Code>${fault.code}</Code><Message>planned ${fault.code}</Message></Error>`;
        outgoing.end(method === 'HEAD' ? undefined : xml);
        return;
      }
      if (fault?.kind === 'corrupt' && body.length > 0)
        body.writeUInt8((body.at(-1) ?? 0) ^ 1, body.length - 1);
      const upstream = request({
        host: target.hostname,
        port: target.port,
        method,
        path: url,
        headers: incoming.headers,
        agent,
      });
      upstream.end(body);
      const [answer] = (await once(upstream, 'response')) as [IncomingMessage];
      if (fault?.kind === 'lose-answer') {
        for await (const _ of answer);
        incoming.socket.resetAndDestroy();
        return;
      }
      status = answer.statusCode ?? 0;
      outgoing.writeHead(status, answer.headers);
      for await (const chunk of answer as AsyncIterable<Buffer>) {
        const left =
          fault?.kind === 'truncate' || fault?.kind === 'stall-body' ? fault.after - sent : Infinity;
        const piece = chunk.subarray(0, left);
        sent += piece.length;
        // What is still in this process when a connection is cut was not sent.
        const lost = piece.length > 0 && (await new Promise((resolve) => outgoing.write(piece, resolve)));
        if (lost) return void answer.destroy();
        if (piece.length < chunk.length) {
          answer.destroy();
          if (fault?.kind === 'truncate') outgoing.destroy();
          return;
        }
      }
      outgoing.end();
    } finally {
      seen.push({ method, url, range: incoming.headers.range, received, sent, status });
    }
  }
}

/** A plan that applies each fault once, in order, to requests that `matches`. */
export function faultsInOrder(
  faults: readonly Fault[],
  matches: (method: string, url: string) => boolean,
): S3Proxy['plan'] {
  const left = [...faults];
  return (method, url) => (matches(method, url) ? left.shift() : undefined);
}
