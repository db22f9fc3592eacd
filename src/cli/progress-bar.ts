import stringWidth from 'string-width';

const BAR_WIDTH = 24;

/** Lines that are drawn again in place on a terminal; silent elsewhere. */
export class ProgressBar {
  readonly #stream: NodeJS.WriteStream;
  #shown: readonly string[] = [];

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  /** Whether anybody sees it. */
  get visible(): boolean {
    return this.#stream.isTTY;
  }

  /** Shows a share (0–1) and a text beside it. */
  show(share: number, text: string): void {
    this.showLines([barLine(share, text, this.#columns)]);
  }

  /** Shows lines, each cut to the terminal's width, as many as it has room for. */
  showLines(lines: readonly string[]): void {
    if (!this.visible) return;
    const fitting = lines
      .slice(0, Math.max(1, (this.#stream.rows || 24) - 1))
      .map((line) => cut(line, this.#columns - 1));
    this.#stream.write(`${this.#back()}${fitting.join('\n')}`);
    this.#shown = fitting;
  }

  /** Removes the lines. */
  clear(): void {
    if (this.#shown.length > 0) this.#stream.write(this.#back());
    this.#shown = [];
  }

  get #columns(): number {
    return Math.max(2, this.#stream.columns || 80);
  }

  /** Back to where the lines began, all of them erased; in a window made narrower they have wrapped since. */
  #back(): string {
    const rows = this.#shown.map((line) => Math.max(1, Math.ceil(stringWidth(line) / this.#columns)));
    const up = rows.reduce((sum, count) => sum + count, 0) - 1;
    return `\r${up > 0 ? `\x1b[${up}A` : ''}\x1b[0J`;
  }
}

/** A bar of what is done and a text beside it; shorter in a narrow window. */
export function barLine(share: number, text: string, columns: number): string {
  const width = Math.max(4, Math.min(BAR_WIDTH, Math.floor(columns / 3)));
  const part = Math.max(0, Math.min(1, share));
  const filled = Math.round(part * width);
  const percent = String(Math.floor(part * 100)).padStart(3);
  return `${'█'.repeat(filled)}${'░'.repeat(width - filled)} ${percent} %  ${text}`;
}

/** At most `columns` wide; control characters of names would move the cursor and are shown as `�`. */
function cut(line: string, columns: number): string {
  const plain = line.replaceAll(/\p{Cc}/gu, '�');
  if (stringWidth(plain) <= columns) return plain;
  let kept = '';
  let width = 1; // of the ellipsis
  for (const { segment } of new Intl.Segmenter().segment(plain)) {
    width += stringWidth(segment);
    if (width > columns) break;
    kept += segment;
  }
  return `${kept}…`;
}
