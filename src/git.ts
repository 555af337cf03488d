import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { execa } from "execa";

export type GitResult = { committed: boolean; note?: string };

/** True inside any repository, one of another user included. Null where there is no git. */
export async function isInsideRepository(path: string): Promise<boolean | null> {
  let folder = path;
  while (!existsSync(folder)) folder = dirname(folder);
  const { exitCode, code, stderr } = await git(folder, ["rev-parse", "--is-inside-work-tree"]);
  if (code === "ENOENT") return null;
  return exitCode === 0 || !stderr.includes("not a git repository");
}

/** Makes a repository with a first commit. A commit that git refuses is a note: the project is whole without it. */
export async function commitFirst(folder: string): Promise<GitResult> {
  const branch = await git(folder, ["config", "--get", "init.defaultBranch"]);
  const initial = branch.exitCode === 0 ? [] : ["-c", "init.defaultBranch=main"];
  for (const args of [
    [...initial, "init", "--quiet"],
    ["add", "--all"],
    [...UNATTENDED, "commit", "--quiet", "-m", "Initial commit"],
  ]) {
    const { exitCode, stderr, timedOut } = await git(folder, args);
    if (exitCode === 0) continue;
    const cause = timedOut ? "it took longer than a minute" : reasonIn(stderr);
    return {
      committed: false,
      note: `No first commit: ${cause}. When that is mended: git add -A && git commit -m "Initial commit"`,
    };
  }
  return { committed: true };
}

// Nothing may wait for a person here: no passphrase for a signature, no hook.
const UNATTENDED = ["-c", "commit.gpgSign=false", "-c", "core.hooksPath=/dev/null"];

// As `git rev-parse --local-env-vars` lists them, without those that carry configuration: set by a hook or an alias
// that runs us, they would lead git into the caller's repository.
const FOREIGN = [
  "GIT_ALTERNATE_OBJECT_DIRECTORIES",
  "GIT_COMMON_DIR",
  "GIT_DIR",
  "GIT_GRAFT_FILE",
  "GIT_IMPLICIT_WORK_TREE",
  "GIT_INDEX_FILE",
  "GIT_OBJECT_DIRECTORY",
  "GIT_PREFIX",
  "GIT_SHALLOW_FILE",
  "GIT_WORK_TREE",
];

async function git(cwd: string, args: string[]) {
  const unset = Object.fromEntries(FOREIGN.map((name) => [name, undefined]));
  return execa("git", args, {
    cwd,
    env: { ...unset, GIT_TERMINAL_PROMPT: "0", LC_ALL: "C" },
    stdin: "ignore",
    timeout: 60_000,
    reject: false,
  });
}

function reasonIn(stderr: string): string {
  if (/tell me who you are|empty ident|auto-detect email|no email was given/i.test(stderr)) {
    return "git knows neither user.name nor user.email";
  }
  return stderr.trim().split("\n").at(-1) ?? "git failed";
}
