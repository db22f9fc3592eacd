import { readFileSync } from 'node:fs';

/**
 * Most memory this program has had so far, bytes. What `resourceUsage` gives begins, on Linux, with the peak of the process that
 * started it.
 */
export function peakRss(): number {
  const own =
    process.platform === 'linux' && /^VmHWM:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'));
  return (own ? Number(own[1]) : process.resourceUsage().maxRSS) * 1024;
}
