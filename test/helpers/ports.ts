import { join } from 'node:path';

const { freePort } = (await import(join(import.meta.dirname, '../../../deploy/local/redis.mjs'))) as {
  freePort: () => Promise<number>;
};

/** Different ports of the loopback, for programs that cannot be given port 0. */
export async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) ports.add(await freePort());
  return [...ports];
}
