import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { parse } from "yaml";
import { BASE, type Catalogue, FALLBACK, type OwnedFiles, type TemplateFiles } from "./catalogue.ts";
import { compileTemplate } from "./compile-template.ts";
import { UserError } from "./errors.ts";
import { readPins } from "./fragments/constraints.ts";
import { MOVE_SCRIPT, readMove } from "./move-data.ts";
import { readCompose } from "./read-compose.ts";
import { type Category, checkCategory, checkPart, checkTool, type Part, type Tool } from "./tool.ts";

/** Reads and checks a folder of templates. Only the build and the tests do this: the CLI has what it gives as JSON. */
export async function readTemplates(root: string): Promise<{ catalogue: Catalogue; files: TemplateFiles }> {
  const base = checkPart(await readYaml(root, "base/base.yaml"), "templates/base/base.yaml");
  const files: TemplateFiles = { [BASE]: await readOwner(root, BASE, ["base.yaml", COMPOSE]) };
  const categories: Category[] = [];
  for (const id of (await subfolders(root)).filter((name) => name !== BASE)) {
    // Each category becomes a flag, and commander changes the names of flags that have other characters.
    if (!/^[a-z]+$/.test(id)) throw problem(`templates/${id}`, "a category's name has small letters only");
    const tools: Tool[] = [];
    for (const tool of await subfolders(join(root, id))) {
      const owner = `${id}/${tool}`;
      const fallbacks: Record<string, Part> = {};
      for (const folder of (await subfolders(join(root, owner))).filter((name) => name.startsWith(FALLBACK))) {
        const manifest = `${owner}/${folder}/part.yaml`;
        const part = checkPart(await readYaml(root, manifest), `templates/${manifest}`);
        fallbacks[folder.slice(FALLBACK.length)] = part;
        files[`${owner}/${folder}`] = await readOwner(root, `${owner}/${folder}`, ["part.yaml", "README.md"]);
      }
      const manifest = `${owner}/tool.yaml`;
      tools.push(checkTool(await readYaml(root, manifest), `templates/${manifest}`, id, tool, fallbacks));
      const move = await readMove(owner, readText.bind(undefined, root));
      files[owner] = { ...(await readOwner(root, owner, ["tool.yaml", "README.md"])), ...move };
    }
    const file = `${id}/category.yaml`;
    categories.push(checkCategory(await readYaml(root, file), `templates/${file}`, id, tools));
  }
  // The default stands first, the others stay in alphabetical order.
  for (const { default: id, tools } of categories) tools.sort((a, b) => Number(b.id === id) - Number(a.id === id));
  return { catalogue: { base, categories: categories.sort((a, b) => a.order - b.order) }, files };
}

const LANGUAGE = "python/";
const TEMPLATE = ".hbs";
const COMPOSE = "compose.yaml";
const OPTIONAL = ["constraints.txt", COMPOSE];
// Left behind by running the Python under templates/ in place.
const DEBRIS = /^(?:__pycache__|\..*_cache|\.venv|\.DS_Store|node_modules)$/;

async function readOwner(root: string, owner: string, required: string[]): Promise<OwnedFiles> {
  const constraints = `${owner}/constraints.txt`;
  const owned: OwnedFiles = {
    section: required.includes("README.md") ? await readText(root, `${owner}/README.md`) : "",
    pins: Object.fromEntries(readPins(await readText(root, constraints, ""), `templates/${constraints}`)),
    compose: await parseText(root, `${owner}/${COMPOSE}`, readCompose, required.includes(COMPOSE) ? undefined : "{}"),
    files: {},
    templates: {},
  };
  const movable = required.includes("tool.yaml") ? [MOVE_SCRIPT] : [];
  const known = [...new Set([...required, ...OPTIONAL, ...movable])];
  for (const path of await walk(join(root, owner), "")) {
    const place = `templates/${owner}/${path}`;
    if (known.includes(path) || path.startsWith(FALLBACK)) continue;
    if (!path.startsWith(LANGUAGE)) {
      throw problem(place, `unexpected file; known are ${known.join(", ")}, ${LANGUAGE}** and ${FALLBACK}*/**`);
    }
    const content = await readText(root, `${owner}/${path}`);
    const target = path.slice(LANGUAGE.length);
    if (target.endsWith(TEMPLATE)) {
      owned.templates[target.slice(0, -TEMPLATE.length)] = compileTemplate(content, place);
    } else {
      owned.files[target] = content;
    }
  }
  return owned;
}

async function walk(folder: string, prefix: string): Promise<string[]> {
  const paths: string[] = [];
  for (const entry of await readdir(join(folder, prefix), { withFileTypes: true })) {
    if (DEBRIS.test(entry.name)) continue;
    if (entry.isDirectory()) paths.push(...(await walk(folder, `${prefix}${entry.name}/`)));
    else paths.push(`${prefix}${entry.name}`);
  }
  return paths.sort();
}

async function subfolders(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true });
  return entries.flatMap((entry) => (entry.isDirectory() && !DEBRIS.test(entry.name) ? [entry.name] : [])).sort();
}

function readYaml(root: string, path: string): Promise<unknown> {
  return parseText(root, path, parse);
}

async function parseText<T>(root: string, path: string, parser: (text: string) => T, fallback?: string): Promise<T> {
  try {
    return parser(await readText(root, path, fallback));
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw problem(`templates/${path}`, (error as Error).message);
  }
}

async function readText(root: string, path: string, fallback?: string): Promise<string> {
  let bytes: Buffer;
  try {
    bytes = await readFile(join(root, path));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    if (fallback !== undefined) return fallback;
    throw problem(`templates/${path}`, "missing");
  }
  const text = bytes.toString("utf8");
  // A byte that is no UTF-8 would not survive the build; CRLF would not survive a checkout.
  if (!Buffer.from(text).equals(bytes)) throw problem(`templates/${path}`, "is not UTF-8 text");
  if (text.includes("\r")) throw problem(`templates/${path}`, "has a carriage return; use LF line ends");
  return text;
}

function problem(place: string, what: string): UserError {
  return new UserError({ code: "templates", message: `${place}: ${what}`, hint: "Mend that file and build again." });
}
