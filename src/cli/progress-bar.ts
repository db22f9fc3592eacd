/** Redraws one line on a terminal; keeps silent elsewhere. */
export class ProgressBar {
  readonly #stream: NodeJS.WriteStream;
  #shown = false;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  /** Shows a share (0–1) and a text beside it, cut to the terminal's width. */
  show(share: number, text: string): void {
    if (!this.#stream.isTTY) return;
    const width = 24;
    const filled = Math.round(Math.max(0, Math.min(1, share)) * width);
    const bar = `${'█'.repeat(filled)}${'░'.repeat(width - filled)} ${String(Math.floor(share * 100)).padStart(3)} %  ${text}`;
    this.#stream.write(`\r\x1b[2K${bar.slice(0, Math.max(1, (this.#stream.columns || 80) - 1))}`);
    this.#shown = true;
  }

  /** Removes the line. */
  clear(): void {
    if (this.#shown) this.#stream.write('\r\x1b[2K');
    this.#shown = false;
  }
}
