import { existsSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { inject } from "vitest";
import { environment } from "./environment.ts";

const DEFAULT = "the default stack";

/** Options of `create` for the stacks that a test shall run with; STACKS, separated by semicolons, names others. */
export function stacks(...others: string[]): string[] {
  return process.env["STACKS"]?.split(";") ?? [DEFAULT, ...others];
}

/** What mypy found out about packages, for the next project: it takes most of a minute. Not for two at once. */
export function mypyCache(platform = "own"): { MYPY_CACHE_DIR: string } {
  return { MYPY_CACHE_DIR: join(inject("place"), "mypy", platform) };
}

/** A project with these options, next to that of the default stack. */
export async function projectWith(options: string): Promise<string> {
  if (options === DEFAULT) return inject("project");
  const place = inject("place");
  const project = join(place, options.replace(/\W+/g, "-"), "my-app");
  if (existsSync(project)) return project;
  const create = join(place, "node_modules/.bin/create-ai-stack");
  const args = [project, "--yes", "--no-git", ...options.split(" ")];
  await execa(create, args, { cwd: place, env: environment(), extendEnv: false });
  return project;
}
