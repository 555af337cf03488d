import fs from "node:fs";
import { join } from "node:path";
import { UserError } from "./errors.ts";

export interface Present {
  content: Buffer;
  /** Its permissions. */
  mode: number;
}

/**
 * Reads those of these files that are there. What stands in the way of writing any of them is told before the first is
 * written. A link is refused: it may lead out of the project, and whoever made it wants it to stay one.
 */
export function readFiles(root: string, paths: string[]): Map<string, Present> {
  const files = new Map<string, Present>();
  for (const path of paths) {
    const missing = checkFolders(root, path);
    const stat = missing ? undefined : fs.lstatSync(join(root, path), { throwIfNoEntry: false });
    if (stat === undefined) continue;
    if (stat.isSymbolicLink()) throw refused(root, path, LINK);
    if (stat.isDirectory()) throw refused(root, path, "is a folder, and a file has to go there", "Move it elsewhere");
    if (!stat.isFile()) throw refused(root, path, "is no regular file", "Move it elsewhere");
    const file = join(root, path);
    if ((stat.mode & 0o222) === 0 || !isAllowed(file, fs.constants.R_OK | fs.constants.W_OK)) {
      throw refused(root, path, "is read-only", "Allow yourself to write it (chmod u+rw)");
    }
    files.set(path, { content: fs.readFileSync(file), mode: stat.mode & 0o777 });
  }
  return files;
}

const LINK = "is a symbolic link, and links are not followed";

/** Checks the folders on the way to a file; true where one is yet to be made. */
function checkFolders(root: string, path: string): boolean {
  const folders = path.split("/").slice(0, -1);
  let present = root;
  let isMissing = false;
  for (const [index] of folders.entries()) {
    const folder = folders.slice(0, index + 1).join("/");
    const stat = fs.lstatSync(join(root, folder), { throwIfNoEntry: false });
    if (stat === undefined) {
      isMissing = true;
      break;
    }
    if (stat.isSymbolicLink()) throw refused(root, folder, LINK);
    if (!stat.isDirectory()) {
      throw refused(root, folder, "is a file, and a folder has to be there", "Move it elsewhere");
    }
    present = join(root, folder);
    if (fs.existsSync(join(present, ".git"))) {
      throw refused(root, folder, "is a repository of its own, such as a submodule", "Move it elsewhere");
    }
  }
  if (!isAllowed(present, fs.constants.W_OK)) {
    const folder = present === root ? "." : present.slice(root.length + 1);
    throw refused(root, folder, "is read-only", "Allow yourself to write there (chmod u+w)");
  }
  return isMissing;
}

function refused(root: string, path: string, problem: string, hint = "Replace it by what it leads to"): UserError {
  return new UserError({
    code: "path",
    message: `${path === "." ? root : path} ${problem}.`,
    value: join(root, path),
    hint: `${hint}, and run the command again. Nothing was changed.`,
  });
}

function isAllowed(path: string, mode: number): boolean {
  try {
    fs.accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}
