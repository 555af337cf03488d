import type { Outcome } from "../../src/verify/verify.ts";

export interface Row {
  name: string;
  note: string;
  outcomes: Outcome[];
  /** What was printed, and the project, where it failed. */
  log?: string;
  place?: string;
}

/** The seconds of each phase, a line for each combination. */
export function table(rows: Row[]): string {
  const phases = [...new Set(rows.flatMap(({ outcomes }) => outcomes.map(({ phase }) => phase)))];
  const cells = rows.map(({ name, note, outcomes }) => {
    const found = phases.map((phase) => cell(outcomes.find((outcome) => outcome.phase === phase)));
    return [name, note, ...found, seconds(outcomes.reduce((sum, outcome) => sum + outcome.seconds, 0))];
  });
  const lines = [["combination", "result", ...phases, "all"], ...cells];
  const widths = (lines[0] ?? []).map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0)));
  return lines.map((line) => line.map((text, column) => pad(text, widths[column] ?? 0, column)).join("  ")).join("\n");
}

function cell(outcome: Outcome | undefined): string {
  if (outcome === undefined || outcome.result === "left out") return "-";
  return outcome.result === "failed" ? "FAILED" : seconds(outcome.seconds);
}

function seconds(value: number): string {
  return value.toFixed(1);
}

/** Names to the left, numbers to the right. */
function pad(text: string, width: number, column: number): string {
  return column < 2 ? text.padEnd(width) : text.padStart(width);
}
