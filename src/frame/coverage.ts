/**
 * The stretches of time in which something happens: moments no more than `gap` ns apart belong to one stretch.
 * Moments may come out of order; memory grows with the number of stretches only.
 */
export class Coverage {
  private readonly gap: bigint;
  /** In order, further than `gap` apart. */
  private readonly found: { start: bigint; end: bigint }[] = [];

  constructor(gap: bigint) {
    this.gap = gap;
  }

  /** Something happens at this time. */
  add(time: bigint): void {
    const { found, gap } = this;
    let at = found.length - 1;
    for (let here = found[at]; here && time < here.start - gap; here = found[at]) at -= 1;
    const here = found[at];
    if (!here || time > here.end + gap) {
      found.splice(at + 1, 0, { start: time, end: time });
      this.join(at + 1);
      return;
    }
    if (time < here.start) here.start = time;
    if (time > here.end) here.end = time;
    this.join(at);
    this.join(at - 1);
  }

  /** Joins a stretch with the one after it when they have come close enough. */
  private join(at: number): void {
    const here = this.found[at];
    const next = this.found[at + 1];
    if (!here || !next || next.start - here.end > this.gap) return;
    if (next.end > here.end) here.end = next.end;
    this.found.splice(at + 1, 1);
  }

  /** The stretches in order of time. */
  get stretches(): readonly { readonly start: bigint; readonly end: bigint }[] {
    return this.found;
  }
}
