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

/**
 * A forked worker as a peer. Its exit can be known before its last messages are read, so the peer has ended when both
 * the process and its channel have.
 */
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
      let ended = false;
      const end = (): void => {
        if (ended) return;
        ended = true;
        listener();
      };
      worker.once('exit', () => {
        if (!worker.isConnected()) setImmediate(end);
        else {
          worker.once('disconnect', end);
          setTimeout(end, DRAIN_MS).unref();
        }
      });
    },
  };
}
