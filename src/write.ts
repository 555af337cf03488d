import fs from "node:fs";
import { dirname, join, relative } from "node:path";
import { applySteps, remove, rename, type Step, stopIf, undoStage } from "./apply.ts";
import { UserError } from "./errors.ts";
import { CHOICES_FILE, type FileMap } from "./render.ts";
import { abandonedStages, diskError, inspectTarget, stageName, type Target } from "./target.ts";

/**
 * Writes a whole project or nothing. A new folder is staged beside its place and renamed. An existing one is filled, in
 * a way that the next run undoes where it was cut off.
 *
 * The file system is changed synchronously, which takes less time than to start the threads that would do it aside.
 */
export async function writeProject(planned: Target, files: FileMap, signal: AbortSignal): Promise<void> {
  try {
    await clearAbandoned(planned);
    const target = inspectTarget(planned.path, planned.path);
    if (target.kind === "new") await stageAndRename(target, files, signal);
    else await applySteps(target.path, stepsOf(files), signal);
  } catch (error) {
    throw diskError(error, planned.path);
  }
}

async function stageAndRename(target: Target, files: FileMap, signal: AbortSignal): Promise<void> {
  const stage = join(target.parent, stageName());
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

/** The mark of a whole project last. */
function stepsOf(files: FileMap): Step[] {
  const steps = [...files].map(([path, after]) => ({ path, before: null, after }));
  const isMark = ({ path }: Step) => path === CHOICES_FILE;
  return [...steps.filter((step) => !isMark(step)), ...steps.filter(isMark)];
}

async function clearAbandoned({ parent, kind }: Target): Promise<void> {
  for (const name of abandonedStages(parent)) {
    try {
      await undoStage(parent, join(parent, name));
    } catch (error) {
      // Beside a new folder it stands in nobody's way.
      if (kind === "fill") throw error;
    }
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
