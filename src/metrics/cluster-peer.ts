import type { Worker } from 'node:cluster';

/** A worker process as the merge sees it. */
export type MetricsPeer = {
  /** Never used again by another process. */
  readonly id: number;
  /** Sends if the channel is open; a closed one is no error. */
  send(message: unknown): void;
  onMessage(listener: (message: unknown) => void): void;
  /** Once, when the process is gone and everything it sent has been delivered. */
  onExit(listener: () => void): void;
};

/** A channel that some grandchild still holds open after the exit is not waited for longer. */
const DRAIN_MS = 2000;

/** A forked worker as a peer. */
export function peerOf(worker: Worker): MetricsPeer {
  return {
    id: worker.id,
    send(message) {
      if (worker.isConnected()) worker.send(message as object, () => undefined);
    },
    onMessage(listener) {
      worker.on('message', listener);
    },
    onExit(listener) {
      onGone(worker, listener);
    },
  };
}

/**
 * Calls `listener` once, when the process has ended and its channel is read to the end: the exit alone can be known
 * before the last messages are. Who asks what a dead worker had done must not ask earlier.
 */
export function onGone(worker: Worker, listener: (code: number | null, signal: string | null) => void): void {
  worker.once('exit', (code: number | null, signal: string | null) => {
    let told = false;
    const tell = (): void => {
      if (told) return;
      told = true;
      clearTimeout(timer);
      listener(code, signal);
    };
    const timer = setTimeout(tell, DRAIN_MS);
    if (worker.isConnected()) worker.once('disconnect', tell);
    else setImmediate(tell);
  });
}
