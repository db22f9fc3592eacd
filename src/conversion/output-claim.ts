import { hostname } from 'node:os';
import { InputError } from '../errors.ts';
import { isDead, ownerFrom, uniqueOwnerName } from '../storage/owner.ts';
import type { Storage } from '../storage/types.ts';

/** Who converts into an output, as long as that lasts. */
const CLAIM_PATH = '.roboflow/convert.lock';

/** Tries to take over a claim that somebody gives up at the same moment. */
const TRIES = 3;

/**
 * Keeps other conversions without a queue from the same output: nothing else tells them apart, and both would use the same
 * places. Returns what gives it free. The claim of a process of this machine that was killed is taken over; that of a
 * living one, or of another machine, is an `InputError`.
 */
export async function claimOutput(output: Storage, signal: AbortSignal): Promise<() => Promise<void>> {
  const own = {
    owner: uniqueOwnerName(),
    host: hostname(),
    pid: process.pid,
    since: new Date().toISOString(),
  };
  const bytes = new TextEncoder().encode(`${JSON.stringify(own)}\n`);
  for (let left = TRIES; ; left--) {
    try {
      await output.put(CLAIM_PATH, { bytes }, { ifAbsent: true, signal });
      return () => output.remove(CLAIM_PATH);
    } catch (thrown) {
      const found = await readClaim(output, signal);
      if (left === 0 || found === undefined) throw thrown;
      const owner = ownerFrom(found.owner);
      if (!owner || !isDead(owner)) {
        throw new InputError(
          `${output.url} is being written by another conversion (process ${found.pid} on ${found.host}, since ` +
            `${found.since}): let it end, or remove ${CLAIM_PATH} there when it was killed`,
          { cause: thrown },
        );
      }
      await output.remove(CLAIM_PATH, { signal });
    }
  }
}

/** The claim that lies there; undefined without one. */
async function readClaim(
  output: Storage,
  signal: AbortSignal,
): Promise<{ owner: string; host: string; pid: string; since: string } | undefined> {
  if ((await output.head(CLAIM_PATH, { signal })) === undefined) return undefined;
  const object = await output.open(CLAIM_PATH, { signal });
  try {
    const text = new TextDecoder().decode(await object.read(0n, await object.size()));
    const field = (name: string) => new RegExp(`"${name}":"?([^",}]*)`).exec(text)?.[1] ?? 'unknown';
    return { owner: field('owner'), host: field('host'), pid: field('pid'), since: field('since') };
  } finally {
    await object.close();
  }
}
