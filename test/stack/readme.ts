import { readFile } from "node:fs/promises";
import { join } from "node:path";

/** The README's commands: what stands in its shell blocks, line by line. */
export async function readmeCommands(): Promise<string[]> {
  const readme = await readFile(join(import.meta.dirname, "../../README.md"), "utf8");
  return [...readme.matchAll(/^```sh\n(.*?)^```$/gms)].flatMap(([, block = ""]) => block.trim().split("\n"));
}

/** The one command that starts like this. */
export async function readmeCommand(start: string): Promise<string> {
  const found = (await readmeCommands()).filter((command) => command.startsWith(start));
  if (found.length !== 1) throw new Error(`the README has ${found.length} commands that start with ${start}`);
  return found[0] ?? "";
}
