import { setFlagsFromString } from 'node:v8';

/**
 * Tells V8 that this process is going to end soon; call before the work of a command is loaded.
 *
 * It optimizes only what runs for a while. Converting twenty seconds of three cameras, Node 20 spent 1.3 s of
 * CPU on optimizing code, most of it never to be run again, on cores that the encoders need. Twice its threshold takes a
 * fifth off the command's own CPU, four times another 6 % with joints at 100 Hz and nothing at 1 kHz; more of it is worse
 * for the latter. Later versions have another first compiler, which leaves less to optimize, and no such setting.
 *
 * What is compiled stays compiled until the end: a bundle is kept with it (`loadBundle`).
 */
export function beShortLived(): void {
  if (process.versions.v8.startsWith('11.')) setFlagsFromString('--interrupt-budget=600000');
  setFlagsFromString('--no-flush-bytecode');
  // A command fills its heap at once; collecting garbage on the way there takes cores that encoders need.
  setFlagsFromString('--semi-space-growth-factor=16');
  // Marking in steps keeps pauses short, for which nobody waits here: with joints at 1 kHz it marked the heap six times,
  // and is done after once or twice without it, for a tenth less of the command's own CPU.
  setFlagsFromString('--no-incremental-marking');
}
