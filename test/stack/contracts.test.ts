import { readdir, readFile } from "node:fs/promises";
import { basename, join, relative } from "node:path";
import { execa } from "execa";
import { beforeAll, describe, expect, test } from "vitest";
import { environment } from "./environment.ts";
import { mypyCache, projectWith, stacks } from "./stacks.ts";

// What a project relies on, but need not carry: run inside one, with the fixtures of its own tests.
const CONTRACTS = join(import.meta.dirname, "../contracts");
const VICTIM = join(import.meta.dirname, "victim.py");

describe.each(stacks("--database mongodb", "--workflow prefect"))("%s", (stack) => {
  let project: string;
  /** The folders of tools that the project has not got; pytest leaves them out by itself. */
  let others: string[];

  beforeAll(async () => {
    project = await projectWith(stack);
    const { tools } = JSON.parse(await readFile(join(project, "ai-stack.json"), "utf8"));
    const folders = await Promise.all(Object.keys(tools).map((category) => foldersIn(join(CONTRACTS, category))));
    others = folders.flat().filter((folder) => !Object.values(tools).includes(basename(folder)));
  });

  for (const args of [
    ["pytest", "-c", "pyproject.toml", "--rootdir", ".", "-p", "tests.conftest", "-p", "no:cacheprovider", CONTRACTS],
    ["ruff", "check", "--config", "pyproject.toml", CONTRACTS],
    ["ruff", "format", "--config", "pyproject.toml", "--check", CONTRACTS],
    ["mypy", CONTRACTS, VICTIM],
  ]) {
    test(`the contracts pass: uv run ${args[0]} ${args[1]}`, async () => {
      const options = { cwd: project, env: environment(mypyCache()), extendEnv: false, reject: false, all: true };
      // To mypy it is a regular expression, for a path as seen from where it runs.
      const excluded = args[0] === "mypy" ? others.map((folder) => `/${relative(CONTRACTS, folder)}/`) : others;
      const left = args[0] === "pytest" ? [] : excluded.flatMap((folder) => ["--exclude", folder]);
      const { exitCode, all } = await execa("uv", ["run", ...args, ...left], options);
      expect(exitCode, all).toBe(0);
      if (args[0] === "pytest") expect(all?.split("\n").at(-1)).toMatch(/^=* ?\d+ passed in/);
    }, 900_000);
  }
});

async function foldersIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(folder, name));
}
