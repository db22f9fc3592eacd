import { setFlagsFromString } from 'node:v8';

/**
 * Makes V8 optimize only what runs for seconds; call before the work of a command is loaded. Converting twenty seconds
 * of three cameras, Node 20 spends 1.3 s of CPU on optimizing code, most of it never to be run again, on cores that the
 * encoders need; with this 0.3 s, and the code itself takes as long. Later versions have another first compiler, which
 * leaves less to optimize, and no such setting.
 */
export function optimizeLate(): void {
  if (process.versions.v8.startsWith('11.')) setFlagsFromString('--interrupt-budget=600000');
}
