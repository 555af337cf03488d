import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { execa } from "execa";
import { parse } from "yaml";

// Writes constraints.txt of the base and of every tool: the newest releases that fit together, for every system and
// Python from 3.11 up. They are resolved at once, so that no two owners pin one package differently; but a tool that
// holds others back is left out, then resolved with all, and pins besides its own packages those that are lower so.

const TEMPLATES = join(import.meta.dirname, "../templates");
const COMPILE = ["pip", "compile", "-", "--universal", "--python-version", "3.11", "--no-header"];

const manifests = readdirSync(TEMPLATES, { recursive: true, encoding: "utf8" })
  .filter((path) => /[\\/](?:base|tool|part)\.yaml$/.test(path))
  .sort();
const owners = manifests.map((path) => ({ folder: dirname(path), requirements: requirementsOf(path) }));
const all = await resolve(owners);
/** @type {Map<string, string[]>} Folder → the packages that it holds back. */
const held = new Map();
for (const owner of owners) {
  const { pins } = await resolve(owners.filter((other) => other !== owner));
  const lower = [...pins.keys()].filter((name) => versionOf(all.pins, name) !== versionOf(pins, name));
  if (lower.length > 0) held.set(owner.folder, lower);
}
const free = await resolve(owners.filter(({ folder }) => !held.has(folder)));

for (const { folder, requirements } of owners) {
  const { pins, needs } = held.has(folder) ? all : free;
  const names = closure([...requirements.map(nameOf), ...(held.get(folder) ?? [])], needs);
  const lines = names.flatMap((name) => pins.get(name) ?? []);
  writeFileSync(join(TEMPLATES, folder, "constraints.txt"), `${lines.join("\n")}\n`);
  process.stdout.write(
    `${folder}: ${lines.length} pins${held.has(folder) ? `, holds back ${held.get(folder)}` : ""}\n`,
  );
}

/** @param {Map<string, string[]>} pins @param {string} name */
function versionOf(pins, name) {
  return pins.get(name)?.[0]?.match(/==[^\s;]+/)?.[0];
}

/** @param {typeof owners} some */
async function resolve(some) {
  const input = some.flatMap(({ requirements }) => requirements).join("\n");
  return readGraph((await execa("uv", COMPILE, { input, cwd: TEMPLATES })).stdout);
}

/** @param {string} path @returns {string[]} */
function requirementsOf(path) {
  const { dependencies = [], dev_dependencies = [] } = parse(readFileSync(join(TEMPLATES, path), "utf8"));
  return [...dependencies, ...dev_dependencies].map((/** @type {any} */ entry) => entry.requirement ?? entry);
}

/**
 * Each package's pins, and what it needs: below a pin, uv names the packages that need it, as `# via`.
 * @param {string} output
 */
function readGraph(output) {
  /** @type {Map<string, string[]>} */
  const pins = new Map();
  /** @type {Map<string, string[]>} */
  const needs = new Map();
  let name = "";
  for (const line of output.split("\n").filter((text) => text.trim() !== "")) {
    const parent = line.match(/^\s+#\s+(?:via\s*)?(\S*)/)?.[1];
    if (parent === undefined) {
      name = nameOf(line);
      pins.set(name, [...(pins.get(name) ?? []), line]);
    } else {
      needs.set(parent, [...(needs.get(parent) ?? []), name]);
    }
  }
  return { pins, needs };
}

/** @param {string[]} names @param {Map<string, string[]>} needs */
function closure(names, needs) {
  const found = new Set(names);
  for (const name of found) for (const needed of needs.get(name) ?? []) found.add(needed);
  return [...found].sort();
}

/** @param {string} requirement */
function nameOf(requirement) {
  return requirement
    .replace(/[^a-z0-9._-].*/i, "")
    .toLowerCase()
    .replaceAll(/[._-]+/g, "-");
}
