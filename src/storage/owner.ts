import { createHash, randomUUID } from 'node:crypto';
import { readFileSync, readlinkSync } from 'node:fs';
import { hostname } from 'node:os';

/**
 * Names of temporary and lock files tell whose they are: `<host>.<pid>.<start>`, where `host` stands for the machine
 * and its process-id namespace and `start` for the process's start time, so that a reused process id is no alibi.
 */
export type Owner = { readonly host: string; readonly pid: number; readonly start: string };

const host = createHash('sha256')
  .update(`${hostname()}\n${readOr('', () => readlinkSync('/proc/self/ns/pid'))}`)
  .digest('hex')
  .slice(0, 12);

/** When this process began, as in an owner. */
export const ownStart = startTime(process.pid) ?? '0';

const self: Owner = { host, pid: process.pid, start: ownStart };

/** A name part no other process and no other call produces. */
export function uniqueOwnerName(): string {
  return `${self.host}.${self.pid}.${self.start}.${randomUUID()}`;
}

/** The owner named in `<host>.<pid>.<start>[.…]`; undefined when it is none. */
export function ownerFrom(name: string): Owner | undefined {
  const [, owner, pid, start] = /^([0-9a-f]{12})\.(\d+)\.(\d+)(?:\.|$)/.exec(name) ?? [];
  if (owner === undefined || pid === undefined || start === undefined) return undefined;
  return { host: owner, pid: Number(pid), start };
}

/** True only when the owner ran here and certainly runs no more; a process elsewhere cannot be judged. */
export function isDead(owner: Owner): boolean {
  return owner.host === self.host && hasEnded(owner.pid, owner.start);
}

/** True when no process with this id runs that began at `start` (`0`: not known when). */
export function hasEnded(pid: number, start: string): boolean {
  try {
    process.kill(pid, 0);
  } catch (thrown) {
    return (thrown as NodeJS.ErrnoException).code === 'ESRCH';
  }
  const now = startTime(pid);
  return now !== undefined && start !== '0' && now !== start;
}

/** Start time of a process in clock ticks since boot (field 22 of /proc/PID/stat); undefined where there is none. */
function startTime(pid: number): string | undefined {
  const stat = readOr('', () => readFileSync(`/proc/${pid}/stat`, 'latin1'));
  return stat
    .slice(stat.lastIndexOf(')') + 2)
    .split(' ')
    .at(19);
}

/** `/proc` is Linux only. */
function readOr(fallback: string, read: () => string): string {
  try {
    return read();
  } catch {
    return fallback;
  }
}
