import { basename, dirname, join } from "node:path";
import type { Catalogue, TemplateFiles } from "./catalogue.ts";
import { UserError } from "./errors.ts";
import { refuseName, suggestName } from "./names.ts";
import { quote } from "./steps.ts";
import { inspectTarget, nameOf, type Target } from "./target.ts";
import { packageOf } from "./tool.ts";

/** Where a project can go. Reads only; throws where none can. `taken`: names of packages, see `packagesOf`. */
export function checkDirectory(directory: string, taken: ReadonlySet<string>): Target {
  const name = directory.trim() === "" ? "" : nameOf(directory, process.cwd());
  checkName(name, taken, () => {
    const suggestion = suggestName(name, taken);
    return `Try ${quote(basename(directory) === name ? join(dirname(directory), suggestion) : suggestion)}.`;
  });
  return inspectTarget(directory, process.cwd());
}

/** Throws, with this hint, where no project can have the name. */
export function checkName(name: string, taken: ReadonlySet<string>, hint: () => string): void {
  const reason = refuseName(name, taken);
  if (reason === undefined) return;
  const message = `"${name}" cannot be the name of the project: ${reason}.`;
  throw new UserError({ code: "name", message, value: name, hint: hint() });
}

/** Every package of every stack: a project's name must stay free when a tool is changed later. */
export function packagesOf(catalogue: Catalogue, templates: TemplateFiles): ReadonlySet<string> {
  const tools = catalogue.categories.flatMap((category) => category.tools);
  const parts = [catalogue.base, ...tools, ...tools.flatMap(({ fallbacks }) => Object.values(fallbacks))];
  const direct = parts.flatMap((part) => [...part.dependencies, ...part.devDependencies]);
  const pinned = Object.values(templates).flatMap(({ pins }) => Object.keys(pins));
  return new Set([...direct.map(({ requirement }) => packageOf(requirement)), ...pinned]);
}
