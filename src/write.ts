import { createHash, randomBytes } from "node:crypto";
import fs from "node:fs";
import { dirname, join, relative } from "node:path";
import { Cancelled, UserError } from "./errors.ts";
import { CHOICES_FILE, type FileMap } from "./render.ts";
import { abandonedStages, diskError, inspectTarget, refuseBusy, stageName, type Target } from "./target.ts";

/**
 * Writes a whole project or nothing. A new folder is staged beside its place and renamed. An existing one is filled
 * from a stage inside it, under a journal of what is moved: the next run undoes a fill that was cut off.
 *
 * The file system is changed synchronously, which takes less time than to start the threads that would do it aside.
 */
export async function writeProject(planned: Target, files: FileMap, signal: AbortSignal): Promise<void> {
  try {
    clearAbandoned(planned);
    const target = inspectTarget(planned.path, planned.path);
    const stage = join(target.parent, stageName(randomBytes(4).toString("hex")));
    if (target.kind === "new") await stageAndRename(target, stage, files, signal);
    else await stageAndFill(target, stage, files, signal);
  } catch (error) {
    throw diskError(error, planned.path);
  }
}

async function stageAndRename(target: Target, stage: string, files: FileMap, signal: AbortSignal): Promise<void> {
  try {
    fs.mkdirSync(stage);
    await writeFiles(join(stage, relative(target.parent, target.path)), files, signal);
    await stopIf(signal);
    await rename(join(stage, target.entry), join(target.parent, target.entry));
  } catch (error) {
    if (["ENOTEMPTY", "EEXIST", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) {
      throw new UserError({
        code: "target",
        message: `${join(target.parent, target.entry)} appeared in the meantime.`,
        value: target.path,
        hint: "Choose another directory.",
      });
    }
    throw error;
  } finally {
    remove(stage);
  }
}

async function stageAndFill(target: Target, stage: string, files: FileMap, signal: AbortSignal): Promise<void> {
  try {
    fs.mkdirSync(stage);
    // Looking only after the stage is there means that of two runs at most one goes on.
    refuseBusy(target.path);
    const content = join(stage, CONTENT);
    await writeFiles(content, files, signal);
    await writeJournal(stage, files);
    for (const entry of entriesOf(files)) {
      await stopIf(signal);
      await moveNew(join(content, entry), join(target.path, entry));
    }
  } catch (error) {
    undo(target.path, stage);
    throw error;
  }
  remove(stage);
}

const CONTENT = "content";
const JOURNAL = "journal.json";

function clearAbandoned({ parent, kind }: Target): void {
  for (const name of abandonedStages(parent)) {
    const stage = join(parent, name);
    try {
      // The mark of a whole project is moved last: with it in place only the stage was left to remove.
      const isFinished = fs.existsSync(join(stage, JOURNAL)) && fs.existsSync(join(parent, CHOICES_FILE));
      if (isFinished) remove(stage);
      else undo(parent, stage);
    } catch (error) {
      // Beside a new folder it stands in nobody's way.
      if (kind === "fill") throw error;
    }
  }
}

/** Removes what a fill moved, as far as nobody has changed it since, and then its stage. */
function undo(folder: string, stage: string): void {
  const hashes = readJournal(folder, stage);
  const folders = new Set<string>();
  for (const [path, hash] of hashes) {
    const file = join(folder, path);
    for (let parent = dirname(path); parent !== "."; parent = dirname(parent)) folders.add(parent);
    if (isFile(file) && hashOf(fs.readFileSync(file)) === hash) remove(file);
  }
  for (const path of [...folders].sort((a, b) => b.length - a.length)) removeIfEmpty(join(folder, path));
  remove(stage);
}

/** A journal can come from anybody, in a repository that was cloned for one: it may name files below `folder` alone. */
function readJournal(folder: string, stage: string): [path: string, hash: string][] {
  const journal = join(stage, JOURNAL);
  if (!fs.existsSync(journal)) return [];
  try {
    const hashes = Object.entries<string>(JSON.parse(fs.readFileSync(journal, "utf8")));
    for (const [path] of hashes) refuseOutside(folder, path);
    if (hashes.length > 0) return hashes;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).syscall !== undefined) throw error;
  }
  throw new UserError({
    code: "target",
    message: `An interrupted run left ${stage}, and its ${JOURNAL} is damaged: what it moved cannot be undone.`,
    value: stage,
    hint: "Remove that folder, look through what else is there, and run the command again.",
  });
}

export function refuseOutside(folder: string, path: string): void {
  const parts = path.split("/");
  if (!parts.every((part) => /^(?!\.{0,2}$)[^\\:]+$/.test(part))) throw new Error(path);
  for (let depth = 1; depth < parts.length; depth += 1) {
    const stat = fs.lstatSync(join(folder, ...parts.slice(0, depth)), { throwIfNoEntry: false });
    if (stat?.isSymbolicLink() === true) throw new Error(path);
  }
}

export function isFile(path: string): boolean {
  return fs.lstatSync(path, { throwIfNoEntry: false })?.isFile() === true;
}

export function removeIfEmpty(folder: string): void {
  try {
    fs.rmdirSync(folder);
  } catch (error) {
    if (!["ENOTEMPTY", "EEXIST", "ENOENT"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
  }
}

async function writeFiles(folder: string, files: FileMap, signal: AbortSignal): Promise<void> {
  const folders = new Set([...files.keys()].map((path) => dirname(join(folder, path))));
  for (const each of folders) fs.mkdirSync(each, { recursive: true });
  for (const [path, content] of files) {
    await stopIf(signal);
    fs.writeFileSync(join(folder, path), content);
  }
}

/** In place in one step: a journal that is there is complete, and nothing has moved before it is there. */
async function writeJournal(stage: string, files: FileMap): Promise<void> {
  const hashes = Object.fromEntries([...files].map(([path, content]) => [path, hashOf(content)]));
  const fresh = join(stage, `${JOURNAL}.new`);
  // Without the flush, a power cut may leave the new name with no content.
  fs.writeFileSync(fresh, JSON.stringify(hashes), { flush: true });
  await rename(fresh, join(stage, JOURNAL));
}

async function moveNew(from: string, to: string): Promise<void> {
  // A rename would replace a file silently.
  if (fs.existsSync(to)) {
    throw new UserError({
      code: "target",
      message: `${to} appeared in the meantime.`,
      value: to,
      hint: "Empty the directory first.",
    });
  }
  await rename(from, to);
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

/** The top-level entries, the mark of a whole project last. */
function entriesOf(files: FileMap): string[] {
  const entries = new Set([...files.keys()].map((path) => path.split("/")[0] ?? path));
  entries.delete(CHOICES_FILE);
  return [...entries, CHOICES_FILE];
}

export function hashOf(content: string | Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}

export async function stopIf(signal: AbortSignal): Promise<void> {
  // Signals are heard between two turns of the event loop.
  await new Promise((resolve) => setImmediate(resolve));
  if (signal.aborted) throw new Cancelled();
}
