import { intro, note, select, text } from "@clack/prompts";
import { Cancelled, UserError } from "./errors.ts";
import type { Category } from "./tool.ts";

export function begin(version: string): void {
  // Some terminals do not say their size, and then every character would stand on a line of its own.
  process.stdout.columns ||= 80;
  intro(`create-ai-stack ${version}`);
}

/** Asks for the directory until `check` accepts it. */
export async function askDirectory(
  initial: string,
  check: (directory: string) => void,
  signal: AbortSignal,
): Promise<string> {
  const answer = await text({
    message: "Where shall the project go?",
    placeholder: initial,
    defaultValue: initial,
    signal: orEnd(signal),
    validate: (value) => problemWith(() => check(value === undefined || value === "" ? initial : value)),
  });
  return orCancel(answer);
}

export async function askTool(category: Category, signal: AbortSignal): Promise<string> {
  const answer = await select({
    message: category.question,
    initialValue: category.default,
    signal: orEnd(signal),
    // Not as a hint: that one is shown for the option under the cursor alone.
    options: category.tools.map(({ id, title, choose }) => ({ value: id, label: `${title}: ${choose}` })),
  });
  return orCancel(answer);
}

export function summarize(lines: string[]): void {
  note(lines.join("\n"), "Your stack");
}

/** Aborts at the end of the input too, Ctrl-D: prompts do not notice it, and would wait for ever. */
function orEnd(signal: AbortSignal): AbortSignal {
  const ended = new AbortController();
  process.stdin.once("end", () => ended.abort());
  process.stdin.on("keypress", (_, key?: { ctrl?: boolean; name?: string }) => {
    if (key?.ctrl === true && key.name === "d") ended.abort();
  });
  return AbortSignal.any([signal, ended.signal]);
}

function orCancel(answer: string | symbol): string {
  if (typeof answer === "string") return answer;
  throw new Cancelled();
}

function problemWith(check: () => void): string | undefined {
  try {
    check();
    return undefined;
  } catch (error) {
    if (error instanceof UserError) return `${error.message} ${error.hint}`;
    throw error;
  }
}
