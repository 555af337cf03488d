import { randomBytes } from "node:crypto";
import fs from "node:fs";
import { dirname, join } from "node:path";
import { Cancelled, UserError } from "./errors.ts";
import { abandonedStages, diskError, refuseBusy, stageName } from "./target.ts";
import { hashOf, isFile, refuseOutside, remove, removeIfEmpty, rename, stopIf } from "./write.ts";

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
  const stage = join(root, stageName(randomBytes(4).toString("hex"), "merge-"));
  try {
    fs.mkdirSync(stage);
    // Looking only after the stage is there means that of two runs at most one goes on.
    refuseBusy(root);
    for (const step of steps) refuseChanged(root, step);
    for (const step of steps) stageStep(stage, step);
    await writeJournal(stage, steps);
    for (const step of steps) {
      await stopIf(signal);
      await takeStep(root, stage, step);
    }
  } catch (error) {
    await undo(root, stage);
    if (error instanceof Cancelled) throw new Cancelled("Nothing was changed.");
    throw diskError(error, root);
  }
  removeStage(stage);
}

/** Undoes what a run has left that was killed. Says whether there was one. */
export async function undoInterrupted(root: string): Promise<boolean> {
  refuseBusy(root);
  const abandoned = abandonedStages(root, "merge-");
  try {
    for (const name of abandoned) await undo(root, join(root, name));
  } catch (error) {
    throw diskError(error, root);
  }
  return abandoned.length > 0;
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
  if (after !== null) return move(join(stage, NEW, path), file);
  if (before !== null) remove(file);
  removeEmptyFolders(root, path);
}

async function move(from: string, to: string): Promise<void> {
  fs.mkdirSync(dirname(to), { recursive: true });
  await rename(from, to);
}

/** An editor may have written a file while the changes were worked out. */
function refuseChanged(root: string, { path, before }: Step): void {
  const file = join(root, path);
  const present = isFile(file) ? fs.readFileSync(file) : null;
  if (before === null ? !fs.existsSync(file) : present?.equals(before) === true) return;
  throw new UserError({
    code: "changed",
    message: `${path} has changed in the meantime.`,
    value: file,
    hint: "Run the command again. Nothing was changed.",
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

async function undo(root: string, stage: string): Promise<void> {
  for (const entry of readJournal(root, stage).reverse()) await undoStep(root, stage, entry);
  removeStage(stage);
}

async function undoStep(root: string, stage: string, { path, existed, after }: Entry): Promise<void> {
  const file = join(root, path);
  const old = join(stage, OLD, path);
  const present = isFile(file) ? hashOf(fs.readFileSync(file)) : null;
  if (!existed && present !== null && present === after) {
    remove(file);
    removeEmptyFolders(root, path);
  }
  if (!isFile(old) || present === hashOf(fs.readFileSync(old))) return;
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
    return entries;
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
