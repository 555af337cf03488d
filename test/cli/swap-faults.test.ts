import { readdir, readFile, rm, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, expect, test } from "vitest";
import { entry, environment, makeFolder, readTree, run } from "./run.ts";
import { buildSwappable, createProject } from "./swappable.ts";

// With --force, as git is not what a project is restored by here.
const SWAP = ["swap", "store", "chest", "--no-install", "--force"];

type Files = Record<string, string>;

let cli: string;

beforeAll(async () => {
  cli = await buildSwappable();
});

afterAll(() => rm(cli, { recursive: true }));

/** A project with work of the user's, of which one file comes into conflict; and what shall come of it. */
async function makeProject(): Promise<{ project: string; before: Files; after: Files }> {
  const [project, other] = [await createProject(cli), await createProject(cli)];
  for (const place of [project, other]) await writeFile(join(place, "app/store.py"), 'KIND = "mine"\n');
  const before = await readTree(project);
  expect((await run(SWAP, { cwd: other, cli })).exitCode).toBe(1);
  return { project, before, after: await readTree(other) };
}

async function runWithFault(fault: string, at: number, cwd: string) {
  const preload = new URL("fault.mjs", import.meta.url).href;
  const env = environment({ NODE_OPTIONS: `--import=${preload}`, FAULT: fault, FAULT_AT: String(at) });
  const options = { cwd, env, extendEnv: false, reject: false, stdin: "ignore" } as const;
  return execa(process.execPath, [entry(cli), ...SWAP], options);
}

/** As it was, for the next fault. */
async function restore(project: string, files: Files): Promise<void> {
  for (const name of await readdir(project)) {
    if (name !== ".git") await rm(join(project, name), { recursive: true });
  }
  for (const [path, content] of Object.entries(files)) {
    await makeFolder(project, path, "..");
    await writeFile(join(project, path), content);
  }
}

test("killed at any moment: nothing is lost, and the next run undoes it and goes on", {
  timeout: 180_000,
}, async () => {
  const { project, before, after } = await makeProject();
  let at = 1;
  for (; ; at += 1) {
    await restore(project, before);
    const { signal } = await runWithFault("SIGKILL", at, project);
    if (signal !== "SIGKILL") break;
    const left = Object.values(await readTree(project));
    expect(left).toContain('KIND = "mine"\n');
    const { exitCode, stdout } = await run([...SWAP, "--json"], { cwd: project, cli });
    // The kill may have come after the last change.
    if (exitCode === 0) expect(JSON.parse(stdout).changes).toEqual([]);
    else expect(JSON.parse(stdout).conflicts).toEqual(["app/store.py"]);
    expect(await readTree(project)).toEqual(after);
  }
  expect(at).toBeGreaterThan(30);
});

test.each(["SIGINT", "SIGTERM"])("%s at any moment: all of it or nothing", { timeout: 180_000 }, async (fault) => {
  const { project, before, after } = await makeProject();
  const codes = new Set<number | undefined>();
  for (let at = 1; at < 60; at += 1) {
    await restore(project, before);
    const { exitCode, stderr } = await runWithFault(fault, at, project);
    codes.add(exitCode);
    expect(await readTree(project)).toEqual(exitCode === 130 ? before : after);
    if (exitCode === 130) expect(stderr).toContain("Nothing was changed.");
  }
  expect([...codes].sort()).toEqual([1, 130]);
});

test.each([
  ["ENOSPC", "the disk is full"],
  ["EIO", "EIO: injected"],
])("%s at any moment: as it was, and the cause is told", { timeout: 180_000 }, async (fault, cause) => {
  const { project, before, after } = await makeProject();
  let at = 1;
  for (; ; at += 1) {
    await restore(project, before);
    const { exitCode, stderr } = await runWithFault(fault, at, project);
    expect(exitCode).toBe(1);
    const files = await readTree(project);
    if (stderr === "") {
      expect(files).toEqual(after);
      break;
    }
    expect(stderr).toContain(cause);
    expect(files).toEqual(before);
  }
  expect(at).toBeGreaterThan(20);
});

test("undoing what was cut off leaves alone what its owner has changed since", async () => {
  const { project, before } = await makeProject();
  for (let at = 1; !(await readFile(join(project, "README.md"), "utf8").catch(() => "")).includes("Crate"); at += 1) {
    await restore(project, before);
    expect((await runWithFault("SIGKILL", at, project)).signal).toBe("SIGKILL");
    if (at > 60) throw new Error("never cut off behind the README");
  }
  await writeFile(join(project, "README.md"), "written since\n");
  const { exitCode, stderr } = await run(["swap", "store", "chest", "--dry-run"], { cwd: project, cli });
  expect([exitCode, stderr]).toEqual([2, expect.stringContaining("An interrupted run left ")]);
  await run(["swap", "store", "shelf"], { cwd: project, cli });
  expect(await readTree(project)).toEqual({
    ...before,
    "README.md": "written since\n",
    "README.md.orig": before["README.md"],
  });
});

test("of several at once at most one makes the change, and whole", async () => {
  const { project, after } = await makeProject();
  const runs = await Promise.all(Array.from({ length: 4 }, () => run([...SWAP, "--json"], { cwd: project, cli })));
  const codes = runs.map(({ stdout }) => JSON.parse(stdout).error?.code ?? "none");
  expect(codes.filter((code) => code === "conflicts").length).toBeLessThanOrEqual(1);
  expect(codes.filter((code) => !["conflicts", "target", "changed", "none", "choices"].includes(code))).toEqual([]);
  if (!codes.includes("conflicts")) await run(SWAP, { cwd: project, cli });
  expect(await readTree(project)).toEqual(after);
});

test.each([
  ["is empty", ""],
  ["is no list", "{}"],
  ["leads out of the project", JSON.stringify([{ path: "../precious", existed: false, after: "" }])],
])("a journal that %s undoes nothing", async (_, journal) => {
  const project = await createProject(cli);
  const stage = await makeFolder(project, ".create-ai-stack-abcdef-1-00000000");
  await writeFile(join(stage, "journal.json"), journal);
  const longAgo = new Date(Date.now() - 11 * 60 * 1000);
  await utimes(stage, longAgo, longAgo);
  const before = await readTree(project);
  const { exitCode, stderr } = await run(SWAP, { cwd: project, cli });
  expect([exitCode, stderr]).toEqual([2, expect.stringContaining(`${stage}, and its journal.json is damaged`)]);
  expect(await readTree(project)).toEqual(before);
  // Nor does create, in the midst of a project.
  expect((await run([".", "--yes"], { cwd: project, cli })).exitCode).toBe(2);
  expect(await readTree(project)).toEqual(before);
});
