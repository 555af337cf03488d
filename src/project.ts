import fs from "node:fs";
import { dirname, join } from "node:path";
import type { Catalogue } from "./catalogue.ts";
import { UserError } from "./errors.ts";
import { findOnPath } from "./machine.ts";
import { isDistribution } from "./names.ts";
import type { Answers } from "./plan.ts";
import { CHOICES_FILE } from "./render.ts";
import { uvInVenv } from "./steps.ts";

/** A project that this program has made: where it is, and what its ai-stack.json says. */
export interface Project extends Answers {
  root: string;
  /** Which version has made it, or has updated it since. */
  version: string;
}

/** The project that a folder is, or lies in. */
export function findProject(cwd: string): string {
  for (let folder = cwd; ; folder = dirname(folder)) {
    if (fs.lstatSync(join(folder, CHOICES_FILE), { throwIfNoEntry: false }) !== undefined) return folder;
    if (folder === dirname(folder)) break;
  }
  throw new UserError({
    code: "no-project",
    message: `There is no ${CHOICES_FILE} in ${cwd} or above.`,
    value: cwd,
    hint: "Change into a project that create-ai-stack has made (cd my-app).",
  });
}

export function readProject(root: string): Project {
  const file = join(root, CHOICES_FILE);
  if (fs.lstatSync(file).isFile() !== true) throw broken(file, "it is no regular file");
  return { root, ...parseChoices(file, fs.readFileSync(file, "utf8")) };
}

/** The uv of this machine or, without one, that of the project. */
export function findUv(root: string | undefined): string | undefined {
  const own = root === undefined ? undefined : join(root, uvInVenv());
  return findOnPath("uv") ?? (own !== undefined && fs.existsSync(own) ? own : undefined);
}

/** What an ai-stack.json says. `file` is for errors. */
function parseChoices(file: string, text: string): Omit<Project, "root"> {
  const { generator, version, name, tools } = parse(file, text);
  if (generator !== "create-ai-stack") throw broken(file, `"generator" must be "create-ai-stack", ${found(generator)}`);
  if (typeof version !== "string" || !VERSION_NUMBER.test(version)) {
    throw broken(file, `"version" must be a version such as ${VERSION}, ${found(version)}`);
  }
  if (typeof name !== "string" || !isDistribution(name)) {
    throw broken(file, `"name" must be the name of a Python distribution, ${found(name)}`);
  }
  if (!isMapping(tools)) throw broken(file, `"tools" must be a mapping of categories to tools, ${found(tools)}`);
  for (const [category, tool] of Object.entries(tools)) {
    if (typeof tool !== "string") throw broken(file, `the tool of "${category}" must be a text, ${found(tool)}`);
  }
  return { version, name, tools: tools as Record<string, string> };
}

/** The choices of an ai-stack.json at any place, or of stdin, which is `-`. */
export function readChoices(from: string, catalogue: Catalogue): Answers {
  let text: string;
  try {
    text = fs.readFileSync(from === "-" ? 0 : from, "utf8");
  } catch (error) {
    const message = `--from ${from} cannot be read: ${(error as Error).message}.`;
    throw new UserError({ code: "from", message, value: from, hint: "Give an ai-stack.json, or - for stdin." });
  }
  const file = from === "-" ? "stdin" : from;
  const { name, tools } = parseChoices(file, text);
  checkChoices(file, tools, catalogue);
  return { name, tools };
}

/** Refuses choices that a version does not have. `file` is for errors. */
export function checkChoices(file: string, tools: Record<string, string>, { categories }: Catalogue): void {
  for (const { id, tools: candidates } of categories) {
    const ids = candidates.map((tool) => tool.id);
    const tool = tools[id];
    if (tool === undefined) throw broken(file, `"tools" lacks "${id}", which is one of ${ids.join(", ")}`);
    if (!ids.includes(tool)) throw broken(file, `the tool of "${id}" must be one of ${ids.join(", ")}, ${found(tool)}`);
  }
  const unknown = Object.keys(tools).find((category) => !categories.some(({ id }) => id === category));
  if (unknown !== undefined) throw broken(file, `there is no category "${unknown}"`);
}

/** For a version that this program has no templates of. */
export function unknownVersion({ root, version }: Project, command: string): UserError {
  if (!isNewer(version)) return broken(join(root, CHOICES_FILE), `no version ${version} was ever released`);
  return new UserError({
    code: "newer-version",
    message: `${root} was made by create-ai-stack ${version}; this is ${VERSION}.`,
    value: version,
    hint: `Use that version, or a newer one: npx create-ai-stack@${version} ${command}`,
  });
}

/** ai-stack.json with other choices. What else the user keeps there stays. */
export function updateChoices(present: string, rendered: string): string {
  return `${JSON.stringify({ ...(parseJson(present) as object), ...JSON.parse(rendered) }, null, 2)}\n`;
}

const VERSION_NUMBER = /^(?:0|[1-9]\d{0,8})\.(?:0|[1-9]\d{0,8})\.(?:0|[1-9]\d{0,8})(?:-[0-9a-z.-]{1,40})?$/i;

function isNewer(version: string): boolean {
  const [mine, other] = [VERSION, version].map((text) => text.replace(/-.*/, "").split(".").map(Number));
  const difference = [0, 1, 2].map((part) => (other?.[part] ?? 0) - (mine?.[part] ?? 0)).find((value) => value !== 0);
  return (difference ?? 0) > 0;
}

function parse(file: string, text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = parseJson(text);
  } catch (error) {
    throw broken(file, `it is no JSON: ${(error as Error).message}`);
  }
  if (!isMapping(value)) throw broken(file, "it must hold a mapping");
  return value;
}

/** Some editors on Windows put a byte order mark before it. */
function parseJson(text: string): unknown {
  return JSON.parse(text.replace(/^\uFEFF/, ""));
}

function broken(file: string, problem: string): UserError {
  return new UserError({
    code: "choices",
    message: `${file} is damaged: ${problem}.`,
    value: file,
    hint: `Mend it, or restore it as it was committed: git restore ${CHOICES_FILE}`,
  });
}

function found(value: unknown): string {
  return value === undefined ? "and is missing" : `and is ${JSON.stringify(value).slice(0, 80)}`;
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
