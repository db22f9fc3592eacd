import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';

/**
 * Ports of the loopback for programs that cannot be given port 0. They lie below those that systems hand out by
 * themselves (32768 and up on Linux, 49152 elsewhere): none is taken by a connection that begins meanwhile.
 */
export async function freePorts(count: number): Promise<number[]> {
  const servers: Server[] = [];
  while (servers.length < count) {
    const server = createServer();
    try {
      server.listen(randomInt(12_000, 32_000), '127.0.0.1');
      await once(server, 'listening');
      servers.push(server);
    } catch (thrown) {
      if ((thrown as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw thrown;
    }
  }
  return Promise.all(
    servers.map(async (server) => {
      const address = server.address();
      await new Promise((resolve) => server.close(resolve));
      return typeof address === 'object' && address ? address.port : 0;
    }),
  );
}
