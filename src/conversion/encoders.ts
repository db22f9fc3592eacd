import { probeEncoders } from '../dataset/encoders.ts';
import { EncodeError } from '../errors.ts';
import type { Log } from './types.ts';

/** Logs which encoders this machine has, and why hardware ones do not work here. A machine without FFmpeg is told how to get it. */
export async function logEncoders(log: Log): Promise<void> {
  try {
    const probes = await probeEncoders();
    const encoders = probes.filter(({ works }) => works).map(({ encoder }) => encoder);
    const failing = probes.filter(({ works }) => !works).map(({ encoder, reason }) => [encoder, reason]);
    log.info({ encoders, notUsable: Object.fromEntries(failing) as object }, 'encoders of this machine');
  } catch (thrown) {
    if (!(thrown instanceof EncodeError)) throw thrown;
    log.warn({ err: thrown }, 'no videos can be encoded on this machine');
  }
}
