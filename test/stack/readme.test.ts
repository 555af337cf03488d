import { cp, mkdir, mkdtemp, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { execa } from "execa";
import { expect, inject, onTestFinished, test } from "vitest";
import { holdings } from "../../src/verify/holdings.ts";
import { environment } from "./environment.ts";
import { readmeCommand, readmeCommands } from "./readme.ts";
import { collapse, makeFolder, type Run, Service } from "./service.ts";

const ROOT = join(import.meta.dirname, "../..");
const project = inject("project");

// setup.ts made the project by the README's line with npx.
const COVERED = ["npm ci && npm run build", "npm ci && npm test", "npx create-ai-stack", "cd my-app", "uv run my-app "];

test("the README has no other commands than those that are run here", async () => {
  const others = (await readmeCommands()).filter((line) => !COVERED.some((start) => line.startsWith(start)));
  expect(others).toEqual([]);
});

test("one line makes a clone answer a question", async () => {
  const folder = await realpath(await mkdtemp(join(tmpdir(), "clone-")));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
  const { stdout: files } = await execa("git", list, { cwd: ROOT });
  for (const file of files.split("\0").filter((name) => name !== "" && !name.startsWith("test/stack/documents/"))) {
    await mkdir(dirname(join(folder, "clone", file)), { recursive: true });
    await cp(join(ROOT, file), join(folder, "clone", file)).catch(ignoreDeleted);
  }
  const { exitCode, stdout, stderr } = await execa("sh", ["-c", await readmeCommand("npm ci && npm run build")], {
    cwd: join(folder, "clone"),
    env: environment({ PROGRAM_ID: "clone" }),
    extendEnv: false,
    reject: false,
    stdin: "ignore",
  });
  expect(exitCode, `${stdout}\n${stderr}`).toBe(0);
  expect(stdout).toContain("sample/billing.md");
  expect(collapse(stdout)).toContain("kept for ten years");
  expect((await holdings("PROGRAM_ID=clone", [folder])).processes).toEqual(new Map());
});

test("one line passes all tests: it is what CI runs", async () => {
  const script = await readFile(join(ROOT, ".ci/run"), "utf8");
  expect(script.trim().split("\n").at(-1)).toBe(await readmeCommand("npm ci && npm test"));
});

test("the other lines start the project, ask it, feed it and show its runs", async () => {
  const data = await makeFolder("data-");
  const command = (await readmeCommand("uv run my-app dev")).split(" ");
  const service = await Service.start({ project, data, command });
  await writeFile(join(await makeDocs(), "tower.md"), "# Tower\n\nThe tower has 211 steps.\n");
  try {
    const others = (await readmeCommands()).filter(
      (line) => line.startsWith("uv run my-app ") && !line.endsWith("dev"),
    );
    expect(others.map((line) => line.split(" ")[3])).toEqual(["ask", "ingest", "runs"]);
    const options = { cwd: project, env: environment({ DATA_DIR: data }), extendEnv: false };
    const printed = await Promise.all(others.map((line) => execa("sh", ["-c", line], options)));
    expect(collapse(printed[0]?.stdout ?? "")).toContain("kept for ten years");
    expect(printed[1]?.stdout).toBe("1 succeeded");
    expect(printed[2]?.stdout).toMatch(/succeeded +ingestion/);
    expect((await service.call<Run[]>("GET", "/runs")).length).toBeGreaterThanOrEqual(2);
  } finally {
    await service.end();
  }
});

async function makeDocs(): Promise<string> {
  const docs = join(project, "docs");
  await mkdir(docs);
  onTestFinished(() => rm(docs, { recursive: true }));
  return docs;
}

function ignoreDeleted(error: NodeJS.ErrnoException): void {
  if (error.code !== "ENOENT") throw error;
}
