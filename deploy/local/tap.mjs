/**
 * Reads TAP lines as AVA writes them and renders them for people. `line(text)` answers what to print for one line, or
 * undefined; `counts` are of tests that passed, failed and were skipped (a crashed test file is a failure). `ended()` tells
 * whether the summary at the end was seen.
 */
export function tapReader({ color = false } = {}) {
  const paint = (code, text) => (color ? `\u001B[${code}m${text}\u001B[39m` : text);
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const failures = [];
  let ended = false;
  const result = (ok, title, directive) => {
    if (directive !== undefined) {
      counts.skipped++;
      return `  ${paint(33, '-')} ${title} (skipped)`;
    }
    if (ok) {
      counts.passed++;
      return `  ${paint(32, '✔')} ${title}`;
    }
    counts.failed++;
    failures.push(title);
    return `  ${paint(31, '✖')} ${title}`;
  };
  return {
    counts,
    failures,
    ended: () => ended,
    line(text) {
      if (/^# fail \d+$/.test(text)) ended = true;
      const test = /^(not )?ok \d+(?: - (.*?))?(?: # (SKIP|TODO)\b.*)?$/.exec(text);
      if (test) return result(test[1] === undefined, test[2] || '', test[3]);
      if (/^(TAP version|1\.\.\d+|# (tests|pass|fail|skip|todo) \d+$|\s*(---|\.\.\.)$)/.test(text))
        return undefined;
      if (/^# .* hook$/.test(text)) return undefined;
      if (text.startsWith('#')) return `    ${text.slice(1).trim()}`;
      return text === '' ? undefined : text;
    },
  };
}
