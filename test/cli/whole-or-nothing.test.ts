import { chmod, chown, mkdir, readdir, symlink, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { describe, expect, inject, test } from "vitest";
import { entry, environment, makeFolder, readTree, run, tempFolder } from "./run.ts";

const QUICK = ["my-app", "--yes", "--no-install", "--no-git"];
const isRoot = process.getuid?.() === 0;

type Files = Record<string, string>;

/** Runs the CLI with a fault at its n-th change of the file system. */
async function runWithFault(fault: string, at: number, cwd: string, args = QUICK) {
  const preload = new URL("fault.mjs", import.meta.url).href;
  const env = environment({ NODE_OPTIONS: `--import=${preload}`, FAULT: fault, FAULT_AT: String(at) });
  const options = { cwd, env, extendEnv: false, reject: false, stdin: "ignore" } as const;
  const { exitCode, signal, stdout, stderr } = await execa(process.execPath, [entry(), ...args], options);
  return { exitCode, signal, stdout, stderr };
}

async function reference(): Promise<Files> {
  const cwd = await tempFolder();
  await run(QUICK, { cwd });
  return readTree(join(cwd, "my-app"));
}

/** Each number of changes until the run is over before the fault comes. */
async function forEachChange(check: (at: number) => Promise<"over" | "goes on">): Promise<void> {
  let at = 1;
  while ((await check(at)) === "goes on") at += 1;
  expect(at).toBeGreaterThan(10);
}

/** The places that a project can go to: `new` is made by the run, `fill` is there and empty. */
describe.each(["new", "fill"])("a target of kind %s", (kind) => {
  async function makePlace(): Promise<string> {
    const cwd = await tempFolder();
    if (kind === "fill") await mkdir(join(cwd, "my-app"));
    return cwd;
  }

  test("killed at any moment: never a half project taken for a whole one, and the next run makes it whole", async () => {
    const whole = await reference();
    await forEachChange(async (at) => {
      const cwd = await makePlace();
      const { signal } = await runWithFault("SIGKILL", at, cwd);
      const left = await readTree(cwd);
      if (left["my-app/ai-stack.json"] !== undefined) {
        expect(inProject(left)).toEqual(whole);
      } else {
        expect((await run(QUICK, { cwd })).exitCode).toBe(0);
        expect(await readTree(cwd)).toEqual(prefixed(whole));
      }
      return signal === "SIGKILL" ? "goes on" : "over";
    });
  });

  test.each(["SIGINT", "SIGTERM"])("%s at any moment leaves a whole project or nothing", async (fault) => {
    const whole = prefixed(await reference());
    const codes = new Set<number | undefined>();
    let changes = 0;
    await forEachChange(async (at) => {
      const cwd = await makePlace();
      const { exitCode } = await runWithFault(fault, at, cwd);
      codes.add(exitCode);
      expect(await readTree(cwd)).toEqual(exitCode === 0 ? whole : {});
      expect(await readdir(cwd)).toEqual(exitCode === 0 || kind === "fill" ? ["my-app"] : []);
      changes = at;
      return at < 30 || (at < 200 && !codes.has(0)) ? "goes on" : "over";
    });
    expect(changes).toBeGreaterThanOrEqual(30);
    expect([...codes].sort()).toEqual([0, 130]);
  });

  test.each([
    ["ENOSPC", "the disk is full"],
    ["EIO", "EIO: injected"],
  ])("%s at any moment leaves nothing and tells the cause", async (fault, cause) => {
    await forEachChange(async (at) => {
      const cwd = await makePlace();
      const { exitCode, stderr } = await runWithFault(fault, at, cwd);
      if (exitCode === 0) return "over";
      expect(exitCode).toBe(1);
      expect(stderr).toContain(cause);
      expect(await readTree(cwd)).toEqual({});
      expect(await readdir(cwd)).toEqual(kind === "fill" ? ["my-app"] : []);
      return "goes on";
    });
  });

  test("of several runs at once at most one makes the project, and whole", async () => {
    const whole = prefixed(await reference());
    const cwd = await makePlace();
    const runs = await Promise.all(Array.from({ length: 4 }, () => run(QUICK, { cwd })));
    const made = runs.filter(({ exitCode }) => exitCode === 0).length;
    expect(made).toBeLessThanOrEqual(1);
    expect(runs.filter(({ exitCode }) => exitCode === 2).length).toBe(4 - made);
    expect(await readTree(cwd)).toEqual(made === 1 ? whole : {});
  });
});

test("what the user can do nothing about is reported as a bug, with its stack", async () => {
  const cwd = await tempFolder();
  const { exitCode, stdout, stderr } = await runWithFault("BUG", 1, cwd, [...QUICK, "--json"]);
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(/A bug in create-ai-stack: Error: BUG: injected\n\s+at /);
  expect(stderr).toContain("Please report it");
  expect(JSON.parse(stdout)).toMatchObject({ ok: false, error: { code: "bug" } });
  expect(await readdir(cwd)).toEqual([]);
});

test("undoing a fill that was cut off leaves alone what its owner has changed since", async () => {
  const cwd = await tempFolder();
  await mkdir(join(cwd, "my-app"));
  let at = 1;
  const isHalf = (left: Files) => "my-app/README.md" in left && !("my-app/pyproject.toml" in left);
  while (!isHalf(await readTree(cwd))) {
    expect((await runWithFault("SIGKILL", at, cwd)).signal).toBe("SIGKILL");
    at += 1;
  }
  await writeFile(join(cwd, "my-app/README.md"), "my notes");
  const { exitCode, stderr } = await run(QUICK, { cwd });
  expect(exitCode).toBe(2);
  expect(stderr).toContain("is not empty: it has README.md.");
  expect(await readTree(cwd)).toEqual({ "my-app/README.md": "my notes" });
});

test("a stage in which a live process works is left alone; after ten minutes its number belongs to somebody else", async () => {
  const cwd = await makeFolder(await tempFolder(), "my-app");
  const probe = await execa(process.execPath, ["-p", "require('os').hostname()"]);
  const { createHash } = await import("node:crypto");
  const host = createHash("sha256").update(probe.stdout).digest("hex").slice(0, 6);
  const stage = join(cwd, `.create-ai-stack-${host}-${process.pid}-00000000`);
  await mkdir(stage);
  const args = [".", "--yes", "--no-install", "--no-git"];
  const busy = await run(args, { cwd });
  expect(busy.exitCode).toBe(2);
  expect(busy.stderr).toContain("is in use by another run");
  expect(await readdir(cwd)).toHaveLength(1);
  const longAgo = new Date(Date.now() - 11 * 60 * 1000);
  await utimes(stage, longAgo, longAgo);
  expect((await run(args, { cwd })).exitCode).toBe(0);
  expect((await readdir(cwd)).filter((name) => name.startsWith(".create-ai-stack"))).toEqual([]);
});

/** A stage that a run of long ago seems to have left, with this journal. */
async function abandonStage(folder: string, journal: string): Promise<string> {
  const stage = await makeFolder(folder, ".create-ai-stack-abcdef-1-00000000");
  await writeFile(join(stage, "journal.json"), journal);
  const longAgo = new Date(Date.now() - 11 * 60 * 1000);
  await utimes(stage, longAgo, longAgo);
  return stage;
}

function journalOf(path: string): string {
  return JSON.stringify([{ path, existed: false, after: hash }]);
}

const hash = "2689367b205c16ce32ed4200942b8b8b1e262dfc70d9bc9fbc77c49699a4f1df"; // of "ok"

test.each([
  ["is empty", ""],
  ["is no JSON", '{"a": '],
  ["has nothing in it", "[]"],
  ["leads out of the target", journalOf("../precious")],
  ["is absolute", journalOf("/precious")],
  ["leads through a link", journalOf("link/precious")],
  ["has a path of Windows", journalOf("..\\precious")],
])("a journal that %s removes nothing: it blocks its own folder, and no new one beside it", async (_, journal) => {
  const cwd = await tempFolder();
  await writeFile(join(cwd, "precious"), "ok");
  const folder = await makeFolder(cwd, "my-app");
  await symlink(cwd, join(folder, "link"));
  const stage = await abandonStage(folder, journal);
  const { exitCode, stderr } = await run(QUICK, { cwd });
  expect([exitCode, stderr]).toEqual([2, expect.stringContaining(`${stage}, and its journal.json is damaged`)]);
  expect((await run(["inner-app", ...QUICK.slice(1)], { cwd: folder })).exitCode).toBe(0);
  expect(await readTree(cwd)).toMatchObject({ precious: "ok", "my-app/inner-app/ai-stack.json": expect.anything() });
});

test("what is only called like a stage, or is another user's, is left alone", async () => {
  const cwd = await tempFolder();
  const target = await makeFolder(cwd, "elsewhere");
  await writeFile(join(target, "precious"), "ok");
  await symlink(target, join(cwd, ".create-ai-stack-abcdef-1-00000001"));
  if (isRoot) await chown(await abandonStage(cwd, journalOf("elsewhere/precious")), 65534, 65534);
  expect((await run(QUICK, { cwd })).exitCode).toBe(0);
  expect((await readdir(cwd)).filter((name) => name.startsWith(".create-ai-stack"))).toHaveLength(isRoot ? 2 : 1);
  expect(await readTree(cwd)).toHaveProperty("elsewhere/precious", "ok");
});

test("a parent without permission to write is told, and nothing is left", async () => {
  const cwd = await tempFolder();
  await chmod(cwd, 0o555);
  await chmod(inject("cli"), 0o755);
  // Root may write anywhere.
  const asUser = isRoot ? ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"] : [];
  const [command = "", ...args] = [...asUser, process.execPath, entry(), ...QUICK];
  const options = { cwd, env: environment(), extendEnv: false, reject: false } as const;
  const { exitCode, stderr } = await execa(command, args, options);
  await chmod(cwd, 0o755);
  expect(exitCode).toBe(1);
  expect(stderr).toContain("you have no permission to write there");
  expect(await readdir(cwd)).toEqual([]);
});

test.runIf(isRoot)("a disk that is really full, or read-only, is told, and nothing is left", async () => {
  const cwd = await tempFolder();
  await execa("mount", ["-t", "tmpfs", "-o", "size=16k", "tmpfs", cwd]);
  try {
    const full = await run(QUICK, { cwd });
    expect(full.exitCode).toBe(1);
    expect(full.stderr).toContain("the disk is full");
    expect(await readdir(cwd)).toEqual([]);
    await execa("mount", ["-o", "remount,ro", cwd]);
    const readOnly = await run(QUICK, { cwd });
    expect(readOnly.exitCode).toBe(1);
    expect(readOnly.stderr).toContain("the file system is read-only");
  } finally {
    await execa("umount", [cwd]);
  }
});

function prefixed(files: Files): Files {
  return Object.fromEntries(Object.entries(files).map(([path, content]) => [`my-app/${path}`, content]));
}

function inProject(files: Files): Files {
  const ours = Object.entries(files).filter(([path]) => /^my-app\/(?!\.create-ai-stack)/.test(path));
  return Object.fromEntries(ours.map(([path, content]) => [path.slice("my-app/".length), content]));
}
