import { join } from "node:path";
import { execa } from "execa";
import { beforeAll, describe, expect, test } from "vitest";
import { environment } from "./environment.ts";
import { projectWith, stacks } from "./stacks.ts";

// What a project relies on, but need not carry: run inside one, with the fixtures of its own tests.
const CONTRACTS = join(import.meta.dirname, "../contracts");
const VICTIM = join(import.meta.dirname, "victim.py");

describe.each(stacks())("%s", (stack) => {
  let project: string;

  beforeAll(async () => {
    project = await projectWith(stack);
  });

  for (const args of [
    ["pytest", "-c", "pyproject.toml", "--rootdir", ".", "-p", "tests.conftest", "-p", "no:cacheprovider", CONTRACTS],
    ["ruff", "check", "--config", "pyproject.toml", CONTRACTS],
    ["ruff", "format", "--config", "pyproject.toml", "--check", CONTRACTS],
    ["mypy", CONTRACTS, VICTIM],
  ]) {
    test(`the contracts pass: uv run ${args[0]} ${args[1]}`, async () => {
      const options = { cwd: project, env: environment(), extendEnv: false, reject: false, all: true };
      const { exitCode, all } = await execa("uv", ["run", ...args], options);
      expect(exitCode, all).toBe(0);
      if (args[0] === "pytest") expect(all?.split("\n").at(-1)).toMatch(/^=* ?\d+ passed in/);
    });
  }
});
