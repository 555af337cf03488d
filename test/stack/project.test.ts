import { execa } from "execa";
import { expect, inject, test } from "vitest";
import { environment } from "./environment.ts";
import { collapse, command, makeFolder } from "./service.ts";
import { mypyCache } from "./stacks.ts";

// The part of the stack tests that needs nothing of Linux: .github/workflows/test.yml runs it on other systems too.

const project = inject("project");

function run(program: string, ...args: string[]) {
  const env = environment(mypyCache(args.includes("--platform") ? args.at(-1) : undefined));
  return execa(program, args, { cwd: project, env, extendEnv: false, reject: false, all: true });
}

test("create says how to start the project, and how to make it again", () => {
  expect(inject("created")).toContain("Next:\n  cd my-app\n  uv run my-app dev\n");
  expect(inject("created")).toMatch(/^ {2}npx create-ai-stack@[\d.]+ my-app --database \w+ .*--observability \w+$/m);
});

test("the first commit holds the project with its lock file, and nothing is left to commit", async () => {
  const { stdout: files } = await run("git", "ls-tree", "-r", "--name-only", "HEAD");
  expect(files.split("\n")).toEqual(expect.arrayContaining(["uv.lock", "ai-stack.json", "app/main.py"]));
  expect(files).not.toMatch(/\.venv|\.data/);
  expect((await run("git", "status", "--porcelain")).stdout).toBe("");
});

const checks = [
  ["pytest"],
  ["ruff", "check"],
  ["ruff", "format", "--check"],
  // For the system that it runs on, matrix.test.ts checks them. These find calls that others do not have.
  ["mypy", "--platform", "win32"],
  ["mypy", "--platform", "darwin"],
];
for (const args of checks) {
  test(`uv run ${args.join(" ")} passes`, async () => {
    const { exitCode, all } = await run("uv", "run", ...args);
    expect(exitCode, all).toBe(0);
    if (args[0] === "pytest") expect(all?.split("\n").at(-1)).toMatch(/^=* ?\d+ passed in/);
  });
}

test("it answers a question", async () => {
  const data = await makeFolder("data-");
  const { exitCode, stdout, stderr } = await command({ project, data }, "ask", "How long are invoices kept?");
  expect(exitCode, stderr).toBe(0);
  expect(collapse(stdout)).toContain("kept for ten years");
});
