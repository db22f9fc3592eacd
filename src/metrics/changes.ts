/**
 * Tells which metrics of a registry read differently from the last time. Most of them stand still between two readings;
 * only the others are worth sending, checking and adding up again.
 */
export class Changes {
  #texts = new Map<string, string>();

  /** The metrics that differ from the last call, and the names of those that do not. */
  since<M>(metrics: readonly M[]): { changed: M[]; unchanged: string[] } {
    const texts = new Map<string, string>();
    const changed: M[] = [];
    const unchanged: string[] = [];
    for (const metric of metrics) {
      const name = (metric as { readonly name?: unknown } | undefined)?.name;
      if (typeof name !== 'string') {
        changed.push(metric);
        continue;
      }
      const text = JSON.stringify(metric);
      if (this.#texts.get(name) === text) unchanged.push(name);
      else changed.push(metric);
      texts.set(name, text);
    }
    this.#texts = texts;
    return { changed, unchanged };
  }
}
