import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { execa } from "execa";
import { parse } from "yaml";

// Writes constraints.txt of the base and of every tool: the newest releases that fit together, for every system and
// Python from 3.11 up. All are resolved at once, so that no two owners pin one package differently.

const TEMPLATES = join(import.meta.dirname, "../templates");
const COMPILE = ["pip", "compile", "-", "--universal", "--python-version", "3.11", "--no-header"];

const manifests = readdirSync(TEMPLATES, { recursive: true, encoding: "utf8" })
  .filter((path) => /[\\/](?:base|tool)\.yaml$/.test(path))
  .sort();
const owners = manifests.map((path) => ({ folder: dirname(path), requirements: requirementsOf(path) }));
const input = owners.flatMap(({ requirements }) => requirements).join("\n");
const { pins, needs } = readGraph((await execa("uv", COMPILE, { input, cwd: TEMPLATES })).stdout);

for (const { folder, requirements } of owners) {
  const lines = closure(requirements.map(nameOf)).flatMap((name) => pins.get(name) ?? []);
  writeFileSync(join(TEMPLATES, folder, "constraints.txt"), `${lines.join("\n")}\n`);
  process.stdout.write(`${folder}: ${lines.length} pins\n`);
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

/** @param {string[]} names */
function closure(names) {
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
