/**
 * Reads TAP lines as AVA writes them and renders them for people. `line(text)` answers what to print for one line, or
 * undefined; `counts` are of tests that passed, failed and were skipped (a crashed test file is a failure); `failures` are
 * their titles with what was said of each, remarks included. `ended()` tells whether the summary at the end was seen.
 */
export function tapReader({ color = false } = {}) {
  const paint = (code, text) => (color ? `\u001B[${code}m${text}\u001B[39m` : text);
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const failures = [];
  let ended = false;
  let failed = false;
  const tell = (text) => {
    if (failed) failures.at(-1).details.push(text);
    return text;
  };
  const result = (ok, title, directive) => {
    failed = !ok && directive === undefined;
    if (directive !== undefined) {
      counts.skipped++;
      return `  ${paint(33, '-')} ${title} (skipped)`;
    }
    if (ok) {
      counts.passed++;
      return `  ${paint(32, '✔')} ${title}`;
    }
    counts.failed++;
    failures.push({ title, details: [] });
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
      if (text.startsWith('#')) return tell(`    ${text.slice(1).trim()}`);
      return text === '' ? undefined : tell(text);
    },
  };
}

/** The lines that close a run with failures: each title with what was said of it, the middle of long accounts left out. */
export function retell(failures) {
  return failures.flatMap(({ title, details }) => {
    const long = details.length > 60;
    const shown = long ? [...details.slice(0, 20), '    [...]', ...details.slice(-39)] : details;
    return [`  ${title}`, ...shown];
  });
}
