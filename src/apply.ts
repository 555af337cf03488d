import { createHash } from "node:crypto";
import fs from "node:fs";
import { basename, dirname, join } from "node:path";
import { Cancelled, UserError } from "./errors.ts";
import { diskError, refuseBusy, stageName } from "./target.ts";

/** A file of a project, from what was read to what shall be there: null stands for no file. */
export interface Step {
  path: string;
  before: Uint8Array | null;
  after: Uint8Array | string | null;
  /** Permissions other than those of a new file. */
  mode?: number;
}

/**
 * Takes all steps or none, in their order. What was there before goes to a stage in the project, under a journal: the
 * next run undoes what was cut off.
 */
export async function applySteps(root: string, steps: Step[], signal: AbortSignal): Promise<void> {
  const stage = join(root, stageName());
  try {
    fs.mkdirSync(stage);
    // Looking only after the stage is there means that of two runs at most one goes on.
    refuseBusy(root, basename(stage));
    for (const step of steps) stageStep(stage, step);
    await writeJournal(stage, steps);
    for (const step of steps) {
      await stopIf(signal);
      await takeStep(root, stage, step);
    }
  } catch (error) {
    await undoStage(root, stage);
    throw diskError(error, root);
  }
  removeStage(stage);
}

/** Undoes the steps that were taken from a stage, unless all were, and removes it. */
export async function undoStage(root: string, stage: string): Promise<void> {
  const entries = readJournal(root, stage);
  const last = entries.at(-1);
  const isFinished = last !== undefined && last.after !== null && hashIn(join(root, last.path)) === last.after;
  if (!isFinished) for (const entry of entries.reverse()) await undoStep(root, stage, entry);
  removeStage(stage);
}

const NEW = "new";
const OLD = "old";
const JOURNAL = "journal.json";

/** What is to be undone of a step. */
interface Entry {
  path: string;
  existed: boolean;
  /** The hash of what was put there; null where nothing was. */
  after: string | null;
}

function stageStep(stage: string, { path, before, after, mode }: Step): void {
  for (const [folder, content] of [[OLD, before] as const, [NEW, after] as const]) {
    if (content === null) continue;
    const file = join(stage, folder, path);
    fs.mkdirSync(dirname(file), { recursive: true });
    fs.writeFileSync(file, content);
    if (mode !== undefined) fs.chmodSync(file, mode);
  }
}

/** At no moment is a file missing that was there and shall be. */
async function takeStep(root: string, stage: string, { path, before, after }: Step): Promise<void> {
  const file = join(root, path);
  refuseChanged(root, path, before);
  if (after !== null) return move(join(stage, NEW, path), file);
  if (before !== null) remove(file);
  removeEmptyFolders(root, path);
}

async function move(from: string, to: string): Promise<void> {
  fs.mkdirSync(dirname(to), { recursive: true });
  await rename(from, to);
}

/** An editor may have written a file in the meantime, and a rename would replace it silently. */
function refuseChanged(root: string, path: string, before: Step["before"]): void {
  const file = join(root, path);
  if (before === null ? !fs.existsSync(file) : hashIn(file) === hashOf(before)) return;
  throw new UserError({
    code: "target",
    message: `${file} ${before === null ? "appeared" : "has changed"} in the meantime.`,
    value: file,
    hint: "Nothing was changed. Look at it, and run the command again.",
  });
}

/** In place in one step: a journal that is there is complete, and nothing has moved before it is there. */
async function writeJournal(stage: string, steps: Step[]): Promise<void> {
  const entries = steps.map(({ path, before, after }): Entry => {
    return { path, existed: before !== null, after: after === null ? null : hashOf(after) };
  });
  const fresh = join(stage, `${JOURNAL}.new`);
  // Without the flush, a power cut may leave the new name with no content.
  fs.writeFileSync(fresh, JSON.stringify(entries), { flush: true });
  await rename(fresh, join(stage, JOURNAL));
}

async function undoStep(root: string, stage: string, { path, existed, after }: Entry): Promise<void> {
  const file = join(root, path);
  const old = join(stage, OLD, path);
  const present = hashIn(file);
  const isTaken = after === null || hashIn(join(stage, NEW, path)) === null;
  if (isTaken && !existed && present === after) remove(file);
  if (!existed) removeEmptyFolders(root, path);
  if (!isTaken) return;
  if ([null, present].includes(hashIn(old))) return;
  // Whoever has written the file since keeps it, and finds the former one beside it.
  await move(old, present === null || present === after ? file : join(root, freeName(path, root)));
}

/** A journal can come from anybody, in a repository that was cloned: it may name files of the project alone. */
function readJournal(root: string, stage: string): Entry[] {
  const journal = join(stage, JOURNAL);
  if (!fs.existsSync(journal)) return [];
  try {
    const entries: Entry[] = JSON.parse(fs.readFileSync(journal, "utf8"));
    for (const { path } of entries) refuseOutside(root, path);
    if (entries.length > 0) return entries;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).syscall !== undefined) throw error;
  }
  throw new UserError({
    code: "target",
    message: `An interrupted run left ${stage}, and its ${JOURNAL} is damaged: what it changed cannot be undone.`,
    value: stage,
    hint: `Move back by hand what is in ${join(stage, OLD)}, remove that folder, and run the command again.`,
  });
}

/** Its journal first: without one, a stage that is left has nothing to undo. */
function removeStage(stage: string): void {
  remove(join(stage, JOURNAL));
  remove(stage);
}

function removeEmptyFolders(root: string, path: string): void {
  for (let folder = dirname(path); folder !== "."; folder = dirname(folder)) removeIfEmpty(join(root, folder));
}

/** A name beside a file that nothing has yet. */
export function freeName(path: string, root: string): string {
  for (let number = 0; ; number += 1) {
    const name = `${path}.orig${number === 0 ? "" : `.${number}`}`;
    if (fs.lstatSync(join(root, name), { throwIfNoEntry: false }) === undefined) return name;
  }
}

function refuseOutside(folder: string, path: string): void {
  const parts = path.split("/");
  if (!parts.every((part) => /^(?!\.{0,2}$)[^\\:]+$/.test(part))) throw new Error(path);
  for (let depth = 1; depth < parts.length; depth += 1) {
    const stat = fs.lstatSync(join(folder, ...parts.slice(0, depth)), { throwIfNoEntry: false });
    if (stat?.isSymbolicLink() === true) throw new Error(path);
  }
}

/** Of a regular file; null where there is none. */
function hashIn(file: string): string | null {
  const isFile = fs.lstatSync(file, { throwIfNoEntry: false })?.isFile() === true;
  return isFile ? hashOf(fs.readFileSync(file)) : null;
}

function removeIfEmpty(folder: string): void {
  try {
    fs.rmdirSync(folder);
  } catch (error) {
    if (!["ENOTEMPTY", "EEXIST", "ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? ""))
      throw error;
  }
}

/** On Windows, a virus scanner may still hold what was just written. */
export async function rename(from: string, to: string): Promise<void> {
  for (let pause = 10; ; pause *= 2) {
    try {
      return fs.renameSync(from, to);
    } catch (error) {
      const isHeld = ["EACCES", "EBUSY", "EPERM"].includes((error as NodeJS.ErrnoException).code ?? "");
      if (process.platform !== "win32" || !isHeld || pause > 10_000 || fs.existsSync(to)) throw error;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

export function remove(path: string): void {
  fs.rmSync(path, { recursive: true, force: true, maxRetries: 10 });
}

function hashOf(content: string | Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}

export async function stopIf(signal: AbortSignal): Promise<void> {
  // Signals are heard between two turns of the event loop.
  await new Promise((resolve) => setImmediate(resolve));
  if (signal.aborted) throw new Cancelled();
}
