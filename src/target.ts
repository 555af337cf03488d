import { createHash, randomBytes } from "node:crypto";
import { lstatSync, readdirSync, statSync } from "node:fs";
import { hostname } from "node:os";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { UserError } from "./errors.ts";

/** Where the project goes, and what is there now. */
export interface Target {
  path: string;
  /** `fill`: an existing folder, empty or with `.git` only. `new`: the folder does not exist. */
  kind: "new" | "fill";
  /** The nearest existing folder: the target itself, or the one that gets `entry`. */
  parent: string;
  /** For a new target: the first folder to appear in `parent`. */
  entry: string;
}

/** Finds out whether a project can go there. Reads only. */
export function inspectTarget(directory: string, cwd: string): Target {
  const path = resolve(cwd, directory);
  try {
    return inspect(path);
  } catch (error) {
    throw diskError(error, path);
  }
}

function inspect(path: string): Target {
  const stat = lookAt(path);
  if (stat === undefined) return newTarget(path);
  if (stat.isSymbolicLink() && statSync(path, { throwIfNoEntry: false }) === undefined) {
    throw refused(path, "is a symbolic link that leads nowhere", "Remove it or choose another directory.");
  }
  if (!statSync(path).isDirectory()) throw refused(path, "is a file", "Choose another directory.");
  const entries = occupants(path);
  if (entries.length > 0) {
    const shown = entries.slice(0, 5).join(", ") + (entries.length > 5 ? `, and ${entries.length - 5} more` : "");
    throw refused(path, `is not empty: it has ${shown}`, "Choose a new or an empty directory.");
  }
  return { path, kind: "fill", parent: path, entry: "" };
}

export function nameOf(directory: string, cwd: string): string {
  return basename(resolve(cwd, directory));
}

// A stage's name says which process on which machine works in it, from its first moment on.
const STAGE = /^\.create-ai-stack-(?<host>[0-9a-f]{6})-(?<pid>[0-9]+)-[0-9a-f]{8}$/;

// A stage is in use for a second or two. After this long its process id belongs to somebody else.
const STAGE_LIFETIME_MS = 10 * 60 * 1000;

// One process can be at work on several projects.
const ownStages = new Set<string>();

export function stageName(): string {
  const name = `.create-ai-stack-${host()}-${process.pid}-${randomBytes(4).toString("hex")}`;
  ownStages.add(name);
  return name;
}

/** This user's stages in a folder that nobody works in. */
export function abandonedStages(folder: string): string[] {
  return stages(folder).filter((stage) => isOurs(join(folder, stage)) && !isAlive(folder, stage));
}

/** Refuses a folder in which others are at work. */
export function refuseBusy(folder: string, own?: string): void {
  const live = stages(folder).find((stage) => stage !== own && isAlive(folder, stage));
  if (live === undefined) return;
  throw refused(folder, "is in use by another run", `Wait for it. If there is none, remove ${join(folder, live)}.`);
}

/** A file system's answer that the user can do something about. */
export function diskError(error: unknown, path: string): unknown {
  const { code, syscall, message } = error as NodeJS.ErrnoException;
  if (code === undefined || syscall === undefined) return error;
  const [cause, hint] = CAUSES[code] ?? [message, "See to that and run the command again."];
  return new UserError({
    code: code.toLowerCase(),
    message: `Cannot use ${path}: ${cause}.`,
    value: path,
    hint,
    exitCode: 1,
  });
}

const CAUSES: Record<string, [cause: string, hint: string]> = {
  ENOSPC: ["the disk is full", "Free some space and run the command again."],
  EDQUOT: ["your quota of disk space is used up", "Free some space and run the command again."],
  EFBIG: ["a file would be larger than this system allows", "Raise the limit (ulimit -f) and run the command again."],
  EACCES: ["you have no permission to write there", "Choose a directory of your own."],
  EPERM: ["the system does not permit it", "Choose a directory of your own."],
  EROFS: ["the file system is read-only", "Choose a directory on another disk."],
  ENAMETOOLONG: ["the path is too long", "Choose a shorter name or a directory nearer to the root."],
  EMFILE: ["too many files are open", "Raise the limit (ulimit -n) and run the command again."],
};

function newTarget(path: string): Target {
  let parent = dirname(path);
  while (lookAt(parent) === undefined) parent = dirname(parent);
  if (statSync(parent, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw refused(parent, "is not a directory", "Choose a directory that lies in a directory.");
  }
  const [entry = ""] = relative(parent, path).split(sep);
  return { path, kind: "new", parent, entry };
}

function lookAt(path: string) {
  try {
    return lstatSync(path, { throwIfNoEntry: false });
  } catch (error) {
    // A file stands where the path needs a folder: the parent will be refused.
    if ((error as NodeJS.ErrnoException).code === "ENOTDIR") return undefined;
    throw error;
  }
}

function occupants(path: string): string[] {
  refuseBusy(path);
  const abandoned = abandonedStages(path);
  // What an interrupted fill moved out of its stage already is the stage's business: see write.ts.
  if (abandoned.length > 0) return [];
  return readdirSync(path).filter((entry) => entry !== ".git");
}

function stages(folder: string): string[] {
  return readdirSync(folder).filter((entry) => STAGE.test(entry));
}

/** In a folder that all may write to, such as /tmp, anybody can make what is called like a stage. */
function isOurs(stage: string): boolean {
  const stat = lstatSync(stage, { throwIfNoEntry: false });
  return stat?.isDirectory() === true && (process.getuid === undefined || stat.uid === process.getuid());
}

function isAlive(folder: string, stage: string): boolean {
  const { host: stageHost, pid } = stage.match(STAGE)?.groups ?? {};
  const changed = lstatSync(join(folder, stage), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (Date.now() - changed > STAGE_LIFETIME_MS) return false;
  return ownStages.has(stage) || stageHost !== host() || processExists(Number(pid));
}

function processExists(pid: number): boolean {
  if (pid === process.pid) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

function host(): string {
  return createHash("sha256").update(hostname()).digest("hex").slice(0, 6);
}

function refused(path: string, problem: string, hint: string): UserError {
  return new UserError({ code: "target", message: `${path} ${problem}.`, value: path, hint });
}
