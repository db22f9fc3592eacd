/**
 * One line of progress: redrawn in place on a terminal, elsewhere printed again when it says something new (a tenth more,
 * or another text).
 */
export function progressLine(stream) {
  const width = 24;
  let last = '';
  return {
    show(share, text) {
      if (stream.isTTY) {
        const filled = Math.round(Math.min(Math.max(share, 0), 1) * width);
        const line = `  [${'#'.repeat(filled)}${'.'.repeat(width - filled)}] ${text}`;
        stream.write(`\r${line.slice(0, (stream.columns || 80) - 1)}\u001B[K`);
        last = line;
        return;
      }
      const line = `  ${String(Math.floor(share * 10) * 10).padStart(3)} % ${text}`;
      if (line !== last) stream.write(`${line}\n`);
      last = line;
    },
    end() {
      if (stream.isTTY) stream.write('\n');
    },
  };
}
