/**
 * Calls `first` on the first SIGTERM or SIGINT and `second` on the next. A repeat within 200 ms counts as the same
 * signal: Ctrl+C reaches every process of the terminal's group, and npm passes it on once more.
 */
export function onSignals(handlers: {
  first(signal: string): void;
  second(signal: string): void;
}): () => void {
  let firstAt: number | undefined;
  const handle = (signal: NodeJS.Signals) => {
    if (firstAt === undefined) {
      firstAt = Date.now();
      handlers.first(signal);
    } else if (Date.now() - firstAt > 200) handlers.second(signal);
  };
  process.on('SIGTERM', handle);
  process.on('SIGINT', handle);
  return () => {
    process.off('SIGTERM', handle);
    process.off('SIGINT', handle);
  };
}
