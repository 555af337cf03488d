import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { execa } from "execa";
import { entry, environment } from "./run.ts";

export type Step = [waitFor: string, keys: string];

interface Conversation {
  cwd: string;
  args?: string[];
  columns?: number;
  env?: Record<string, string>;
  cli?: string;
}

/** Types into the CLI as a person at a terminal would. */
export async function converse(steps: Step[], { cwd, args = [], columns = 80, env = {}, cli }: Conversation) {
  const script = join(import.meta.dirname, "terminal.py");
  const command = [script, String(columns), JSON.stringify(steps), process.execPath, entry(cli), ...args];
  const options = { cwd, env: environment({ TERM: "xterm-256color", ...env }), extendEnv: false };
  const { exitCode, screen, left } = JSON.parse((await execa("python3", command, options)).stdout);
  return { exitCode, screen: stripVTControlCharacters(screen), raw: screen as string, left };
}
