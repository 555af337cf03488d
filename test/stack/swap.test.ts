import { appendFile, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { environment } from "./environment.ts";
import { makeFolder } from "./service.ts";

const CREATE = join(inject("place"), "node_modules/.bin/create-ai-stack");

let folder: string;
let project: string;

beforeAll(async () => {
  folder = await makeFolder("swap-");
  project = join(folder, "my-app");
  await run(folder, CREATE, project, "--yes", "--no-install");
  // Somebody's work, beside what the tools bring.
  const agent = join(project, "app/agent.py");
  await writeFile(agent, (await readFile(agent, "utf8")).replace("\nimport ", "\n# Ours.\nimport "));
  await appendFile(join(project, "README.md"), "\n## Ours\n");
  await writeFile(join(project, "tests/test_ours.py"), "def test_ours() -> None:\n    assert True\n");
});

afterAll(() => rm(folder, { recursive: true, force: true }));

async function run(cwd: string, command: string, ...args: string[]): Promise<string> {
  const options = { cwd, env: environment(), extendEnv: false, reject: false, all: true } as const;
  const { exitCode, all } = await execa(command, args, options);
  expect(exitCode, all).toBe(0);
  return all;
}

test.each([
  ["database", "mongodb"],
  ["workflow", "prefect"],
])("after a swap of the %s to %s, the project's own tests and checks pass", async (category, tool) => {
  await run(project, "git", "add", "--all");
  await run(project, "git", "commit", "--quiet", "-m", "Ours");
  await run(project, CREATE, "swap", category, tool);
  expect(await readFile(join(project, "uv.lock"), "utf8")).toContain(tool === "mongodb" ? "pymongo" : `"${tool}"`);
  expect(await run(project, "uv", "run", "pytest")).toMatch(/\d+ passed in [^\n]*$/);
  for (const check of [["check"], ["format", "--check"]]) await run(project, "uv", "run", "ruff", ...check);
  expect(await readFile(join(project, "app/agent.py"), "utf8")).toContain("# Ours.");
});
