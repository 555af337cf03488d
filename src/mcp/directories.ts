import { lstatSync, realpathSync, statSync } from "node:fs";
import path, { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { UserError } from "../errors.ts";
import { diskError } from "../target.ts";

/** A directory of the client, as it names it. */
export interface Root {
  uri: string;
}

/** What `--allow` says, absolute. Throws where one is no directory. */
export function checkAllowed(allow: readonly string[]): string[] {
  const wrong = allow.find((folder) => realDirectory(folder) === undefined);
  if (wrong === undefined) return allow.map((folder) => resolve(folder));
  const message = `--allow ${wrong}: there is no such directory.`;
  throw new UserError({ code: "allow", message, value: wrong, hint: "Name one that exists." });
}

/**
 * The real paths of what may be written below: the client's roots, of which `allow` leaves what lies in both. A client
 * that names none leaves it to `allow`. Throws where there is nothing.
 */
export function allowedDirectories(roots: readonly Root[], allow: readonly string[]): string[] {
  const named = roots.flatMap(({ uri }) => realDirectory(pathOf(uri)) ?? []);
  const allowed = allow.flatMap((folder) => realDirectory(folder) ?? []);
  const both = named.flatMap((root) => allowed.flatMap((folder) => inBoth(root, folder)));
  const directories = roots.length === 0 ? allowed : allow.length === 0 ? named : both;
  if (directories.length > 0) return directories;
  const told = roots.length === 0 ? "names no roots" : `has the roots ${roots.map(({ uri }) => uri).join(", ")}`;
  const rest = allow.length === 0 ? "" : `, and --allow ${allow.join(", ")} leaves nothing`;
  throw new UserError({
    code: "no-directory",
    message: `There is no directory to write to: the client ${told}${rest}.`,
    hint: "Open a folder in the client, or start the server with: create-ai-stack mcp --allow <directory>",
  });
}

/**
 * The real path of a place below one of these directories. `place` is a path, relative to the first of them, or a file
 * URI. Links are followed as far as it exists. Throws where it lies elsewhere. `itself`: it may be one of them, too.
 */
export function placeBelow(directories: readonly string[], place: string, { itself = false } = {}): string {
  const named = place.startsWith("file:") ? pathOf(place) : resolve(directories[0] ?? "", place);
  const real = named === undefined || named.includes("\0") ? undefined : realPath(named);
  const allows = (folder: string) => real !== undefined && ((itself && real === folder) || isBelow(folder, real));
  if (real !== undefined && directories.some(allows)) return real;
  const told = `${named ?? place}${real === undefined || real === named ? "" : ` leads to ${real}, which`}`;
  throw new UserError({
    code: "not-allowed",
    message: `${told} is not below a directory that may be written to: ${directories.join(", ")}.`,
    value: place,
    hint: "Give a path below one of them.",
  });
}

/** Both absolute and real. */
export function isBelow(folder: string, place: string, system: path.PlatformPath = path): boolean {
  const way = system.relative(folder, place);
  return way !== "" && way !== ".." && !way.startsWith(`..${system.sep}`) && !system.isAbsolute(way);
}

function inBoth(root: string, allowed: string): string[] {
  if (root === allowed || isBelow(allowed, root)) return [root];
  return isBelow(root, allowed) ? [allowed] : [];
}

/** Undefined for what is no file here. */
function pathOf(uri: string): string | undefined {
  // Behind these no path goes on: one that has them in a name must encode them, and half of it is another place.
  if (/[?#]/.test(uri)) return undefined;
  try {
    return fileURLToPath(uri);
  } catch {
    return undefined;
  }
}

function realDirectory(folder: string | undefined): string | undefined {
  try {
    const real = folder === undefined ? undefined : realpathSync.native(folder);
    return real !== undefined && statSync(real).isDirectory() ? real : undefined;
  } catch {
    return undefined;
  }
}

/** Undefined for a link that leads nowhere. The native call knows how a name is spelled where case does not matter. */
function realPath(named: string): string | undefined {
  try {
    let existing = named;
    while (!exists(existing)) existing = dirname(existing);
    return join(realpathSync.native(existing), relative(existing, named));
  } catch (error) {
    if (["ENOENT", "ELOOP"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw diskError(error, named);
  }
}

/** So does a link that leads nowhere: what is written through it would go there. */
function exists(named: string): boolean {
  try {
    return lstatSync(named, { throwIfNoEntry: false }) !== undefined;
  } catch (error) {
    // A file stands where the path needs a folder.
    if ((error as NodeJS.ErrnoException).code === "ENOTDIR") return false;
    throw error;
  }
}
