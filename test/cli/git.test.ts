import { existsSync } from "node:fs";
import { chmod, mkdir, readdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { beforeEach, expect, test } from "vitest";
import { entry, environment, makePath, run, tempFolder } from "./run.ts";

const ARGS = ["my-app", "--yes", "--no-install"];

let cwd: string;
let project: string;

beforeEach(async () => {
  cwd = await tempFolder();
  project = join(cwd, "my-app");
});

async function git(folder: string, ...args: string[]): Promise<string> {
  return (await execa("git", args, { cwd: folder, env: environment(), extendEnv: false })).stdout;
}

test("a repository with one commit of everything, on main", async () => {
  await run(ARGS, { cwd });
  expect(await git(project, "log", "--format=%s %an")).toBe("Initial commit Test");
  expect(await git(project, "status", "--porcelain")).toBe("");
  expect(await git(project, "branch", "--show-current")).toBe("main");
  expect((await git(project, "ls-files")).split("\n")).toContain("ai-stack.json");
});

test("the user's own name for the first branch is respected", async () => {
  const env = { GIT_CONFIG_COUNT: "1", GIT_CONFIG_KEY_0: "init.defaultBranch", GIT_CONFIG_VALUE_0: "trunk" };
  await run(ARGS, { cwd, env });
  expect(await git(project, "branch", "--show-current")).toBe("trunk");
});

test("--no-git makes none", async () => {
  await run([...ARGS, "--no-git"], { cwd });
  expect(await readdir(project)).not.toContain(".git");
});

test("inside an existing repository neither a repository nor a commit is made", async () => {
  await git(cwd, "init", "--quiet");
  const { stdout } = await run(ARGS, { cwd });
  expect(await readdir(project)).not.toContain(".git");
  expect(stdout).toContain("No repository of its own: the folder lies in one already.");
  await expect(git(cwd, "log")).rejects.toThrow("does not have any commits yet");
});

test("a folder with only .git is filled, and nothing is committed there", async () => {
  await mkdir(project);
  await git(project, "init", "--quiet");
  const { exitCode, stdout } = await run(ARGS, { cwd });
  expect(exitCode).toBe(0);
  expect(stdout).toContain("It has a repository already; nothing was committed there.");
  await expect(git(project, "log")).rejects.toThrow("does not have any commits yet");
});

test("the repository of a hook that runs us is not touched", async () => {
  const other = join(cwd, "other");
  await mkdir(other);
  await git(other, "init", "--quiet");
  const env = { GIT_DIR: join(other, ".git"), GIT_WORK_TREE: other, GIT_INDEX_FILE: join(other, ".git/index") };
  expect((await run(ARGS, { cwd, env })).exitCode).toBe(0);
  expect(await git(project, "log", "--format=%s")).toBe("Initial commit");
  expect(await git(other, "ls-files")).toBe("");
});

test("a missing identity is a note with the command that mends it, not a failure", async () => {
  const env = {
    ...{ GIT_AUTHOR_NAME: "", GIT_AUTHOR_EMAIL: "", GIT_COMMITTER_NAME: "", GIT_COMMITTER_EMAIL: "" },
    ...{ GIT_CONFIG_COUNT: "1", GIT_CONFIG_KEY_0: "user.useConfigOnly", GIT_CONFIG_VALUE_0: "true" },
  };
  const { exitCode, stdout } = await run(ARGS, { cwd, env });
  expect(exitCode).toBe(0);
  expect(stdout).toContain("No first commit: git knows neither user.name nor user.email.");
  expect(stdout).toContain('git add -A && git commit -m "Initial commit"');
});

test("a missing git is a note, not a failure", async () => {
  const PATH = await makePath({});
  const { exitCode, stdout } = await run(ARGS, { cwd, env: { PATH } });
  expect(exitCode).toBe(0);
  expect(stdout).toContain("No repository: git is not installed.");
});

test("neither a hook nor a signature can stop or hold the first commit", async () => {
  const hooks = join(cwd, "hooks");
  await mkdir(hooks);
  for (const hook of ["pre-commit", "prepare-commit-msg", "commit-msg", "post-commit"]) {
    await writeFile(join(hooks, hook), "#!/bin/sh\nsleep 60\nexit 1\n");
    await chmod(join(hooks, hook), 0o755);
  }
  const settings = { "core.hooksPath": hooks, "commit.gpgSign": "true", "user.signingKey": "nobody" };
  const entries = Object.entries(settings).flatMap(([key, value], index) => [
    [`GIT_CONFIG_KEY_${index}`, key],
    [`GIT_CONFIG_VALUE_${index}`, value],
  ]);
  const env = { GIT_CONFIG_COUNT: "3", ...Object.fromEntries(entries) };
  expect((await run(ARGS, { cwd, env })).exitCode).toBe(0);
  expect(await git(project, "log", "--format=%s")).toBe("Initial commit");
});

test("a git that is broken is a note with its own reason", async () => {
  await writeFile(join(cwd, "config"), "[broken\n");
  const broken = await run(ARGS, { cwd, env: { GIT_CONFIG_GLOBAL: join(cwd, "config") } });
  expect(broken.exitCode).toBe(0);
  expect(broken.stdout).toMatch(/No repository: .*bad config line 1/);
  const PATH = await makePath({ sh: true, git: "exit 71" });
  const silent = await run(["other-app", ...ARGS.slice(1)], { cwd, env: { PATH } });
  expect(silent.stdout).toContain("No repository: git failed without a word (71).");
});

test("uv.lock is in the first commit, even where *.lock is ignored everywhere", async () => {
  await writeFile(join(cwd, "ignored"), "*.lock\n");
  const env = {
    GIT_CONFIG_COUNT: "1",
    GIT_CONFIG_KEY_0: "core.excludesFile",
    GIT_CONFIG_VALUE_0: join(cwd, "ignored"),
  };
  const PATH = await makePath({ sh: true, git: true, uv: "echo locked > uv.lock" });
  await run(["my-app", "--yes"], { cwd, env: { ...env, PATH } });
  expect(await git(project, "ls-files")).toContain("uv.lock");
});

test("Ctrl-C while git commits keeps the project, says so and exits 130", async () => {
  const started = join(cwd, "started");
  const script = `case "$*" in *commit*) touch "${started}"; exec sleep 60;; *rev-parse*) echo "not a git repository" >&2; exit 128;; esac`;
  const PATH = await makePath({ sh: true, sleep: true, touch: true, git: script });
  const options = { cwd, env: environment({ PATH }), extendEnv: false, reject: false } as const;
  const child = execa(process.execPath, [entry(), ...ARGS], options);
  while (!existsSync(started)) await new Promise((resolve) => setTimeout(resolve, 50));
  child.kill("SIGINT");
  const { exitCode, stderr } = await child;
  expect(exitCode).toBe(130);
  expect(stderr).toContain("is complete, but its first commit was not made");
  expect(await readdir(project)).toContain("ai-stack.json");
});
