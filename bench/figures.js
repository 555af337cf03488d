/** @param {number[]} values */
export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** @param {number} seconds */
export function inSeconds(seconds) {
  return seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`;
}

/**
 * A row of the table of targets; what could not be measured says why.
 * @param {string} what
 * @param {string} target
 * @param {string | Error} figure
 * @param {boolean} [reached]
 */
export function row(what, target, figure, reached) {
  if (figure instanceof Error) return `| ${what} | ${target} | not measured: ${firstLine(figure)} | |`;
  return `| ${what} | ${target} | ${figure} | ${reached === undefined ? "" : reached ? "yes" : "**no**"} |`;
}

/** @param {Error} error */
function firstLine({ message }) {
  return (message.split("\n")[0] ?? "").replaceAll("|", "/").slice(0, 160);
}
