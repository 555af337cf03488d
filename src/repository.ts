import { existsSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "./errors.ts";
import { reasonIn, runGit } from "./git.ts";

/** The one command that takes a change of a project back, and loses nothing: what is taken back stays in the stash. */
export const UNDO = "git stash push --include-untracked -- .";

/**
 * Refuses to change a project that could not be put back as it was by one command. `force` goes on nevertheless, but not
 * in the midst of a merge. Says whether UNDO will do.
 */
export async function checkRepository(
  root: string,
  written: string[],
  force: boolean,
  signal: AbortSignal,
): Promise<boolean> {
  const git = (...args: string[]) => runGit(root, args, signal, "Nothing was changed.");
  const objection = await findObjection(root, git, written);
  if (objection !== undefined && !force) throw objection;
  return objection === undefined;
}

type Git = (...args: string[]) => ReturnType<typeof runGit>;

async function findObjection(root: string, git: Git, written: string[]): Promise<UserError | undefined> {
  const folder = await git("rev-parse", "--absolute-git-dir");
  if (folder.code === "ENOENT") return noWayBack("git is not installed", "Install it and commit the project");
  if (folder.exitCode !== 0) {
    if (!folder.stderr.includes("not a git repository")) return noWayBack(reasonIn(folder), "Mend that");
    return noWayBack(`${root} lies in no repository`, 'git init && git add -A && git commit -m "Initial commit"');
  }
  refuseUnderWay(folder.stdout);
  if ((await git("symbolic-ref", "--quiet", "HEAD")).exitCode !== 0) {
    return noWayBack("HEAD is detached, so no branch would have the change", "git switch -c swap");
  }
  const status = await git("status", "--porcelain", "--untracked-files=normal", "--", ".");
  if (status.exitCode !== 0) return noWayBack(reasonIn(status), "Mend that");
  if (status.stdout !== "") {
    const changed = status.stdout.split("\n").map((line) => line.slice(3));
    return noWayBack(`not all is committed: ${listOf(changed)}`, "git add -A && git commit");
  }
  const known = await git("ls-files", "-z", "--stage");
  const tracked = new Map(known.stdout.split("\0").map((line) => [line.replace(/^[^\t]*\t/, ""), line.split(" ")[0]]));
  const inside = written.find((path) => [...tracked].some(([name, mode]) => mode === "160000" && lies(path, name)));
  if (inside !== undefined) {
    const message = `${inside} lies in a submodule, which is a repository of its own.`;
    throw new UserError({ code: "path", message, value: inside, hint: "Move the submodule elsewhere." });
  }
  const unknown = written.filter((path) => !tracked.has(path) && existsSync(join(root, path)));
  return unknown.length > 0
    ? noWayBack(`git ignores ${listOf(unknown)}`, "git add --force them and commit")
    : undefined;
}

const UNDER_WAY: [file: string, what: string][] = [
  ["rebase-merge", "rebase"],
  ["rebase-apply", "rebase"],
  ["MERGE_HEAD", "merge"],
  ["CHERRY_PICK_HEAD", "cherry-pick"],
  ["REVERT_HEAD", "revert"],
];

function refuseUnderWay(folder: string): void {
  const [, what] = UNDER_WAY.find(([file]) => existsSync(join(folder, file))) ?? [];
  if (what === undefined) return;
  throw new UserError({
    code: "git",
    message: `A ${what} is under way: its changes and these could not be told apart.`,
    value: what,
    hint: `Finish it (git ${what} --continue) or give it up (git ${what} --abort).`,
  });
}

function noWayBack(reason: string, remedy: string): UserError {
  return new UserError({
    code: "git",
    message: `There would be no way back by one command: ${reason}.`,
    hint: `${remedy}. Or go on without: --force (what you have changed is merged all the same).`,
  });
}

function lies(path: string, folder: string): boolean {
  return path === folder || path.startsWith(`${folder}/`);
}

function listOf(paths: string[]): string {
  return paths.slice(0, 5).join(", ") + (paths.length > 5 ? `, and ${paths.length - 5} more` : "");
}
