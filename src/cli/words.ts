/** Bytes for people: `1.2 MB` (powers of 1000). */
export function humanBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

/** Seconds for people: `850 ms`, `12.3 s`, `4 min 05 s`. */
export function humanSeconds(seconds: number): string {
  const size = Math.abs(seconds);
  if (size < 1) return `${(seconds * 1000).toFixed(size < 0.1 ? 1 : 0)} ms`;
  if (size < 100) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, '0')} s`;
}

/** How many of something: `1 episode`, `2 episodes`. */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}

/** Why a source failed; most reasons name it already. */
export function failureOf(source: string, reason: string): string {
  return reason.includes(source) ? reason : `${source}: ${reason}`;
}
