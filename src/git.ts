import { existsSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { Cancelled } from "./errors.ts";

/**
 * Makes a repository with a first commit, outside of any other. What git refuses is a note, which it returns: the
 * project is whole without it.
 */
export async function commitFirst(folder: string, signal: AbortSignal): Promise<string | undefined> {
  const stopped = `${folder} is complete, but its first commit was not made.`;
  const git = (folder: string, args: string[]) => runGit(folder, args, signal, stopped);
  const probe = await git(folder, ["rev-parse", "--is-inside-work-tree"]);
  if (probe.code === "ENOENT") return "No repository: git is not installed.";
  // A repository of another user is one too.
  if (probe.exitCode === 0 || probe.stderr.includes("dubious ownership")) {
    if (existsSync(join(folder, ".git"))) return "It has a repository already; nothing was committed there.";
    return "No repository of its own: the folder lies in one already.";
  }
  if (!probe.stderr.includes("not a git repository")) return `No repository: ${reasonIn(probe)}.`;
  const branch = await git(folder, ["config", "--get", "init.defaultBranch"]);
  const initial = branch.exitCode === 0 ? [] : ["-c", "init.defaultBranch=main"];
  for (const args of [
    [...initial, "init", "--quiet"],
    ["add", "--all"],
    // Many people ignore *.lock everywhere.
    ...(existsSync(join(folder, "uv.lock")) ? [["add", "--force", "uv.lock"]] : []),
    [...UNATTENDED, "commit", "--quiet", "-m", "Initial commit"],
  ]) {
    const result = await git(folder, args);
    if (result.exitCode === 0) continue;
    return `No first commit: ${reasonIn(result)}. When that is mended: git add -A && git commit -m "Initial commit"`;
  }
  return undefined;
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

/** Runs git on the repository of this folder, whichever one the environment names. `stopped` says what is there then. */
export async function runGit(cwd: string, args: string[], signal: AbortSignal, stopped: string) {
  const unset = Object.fromEntries(FOREIGN.map((name) => [name, undefined]));
  const result = await execa("git", args, {
    cwd,
    env: { ...unset, GIT_TERMINAL_PROMPT: "0", LC_ALL: "C" },
    stdin: "ignore",
    timeout: 60_000,
    cancelSignal: signal,
    reject: false,
  });
  // At a terminal git gets the Ctrl-C as well, and may be gone before this process knows of it.
  const isStopped = result.isCanceled || result.signal === "SIGINT" || signal.aborted;
  if (isStopped) throw new Cancelled(stopped);
  return result;
}

/** Why git has failed, in a line. */
export function reasonIn({ stderr, timedOut, exitCode, signal }: Failure): string {
  if (timedOut) return "it took longer than a minute";
  if (/tell me who you are|empty ident|auto-detect email|no email was given/i.test(stderr)) {
    return "git knows neither user.name nor user.email";
  }
  const last = stderr.trim().split("\n").at(-1) ?? "";
  return last.replace(/[.]$/, "") || `git failed without a word (${signal ?? exitCode})`;
}

interface Failure {
  stderr: string;
  timedOut: boolean;
  exitCode?: number;
  signal?: string;
}
