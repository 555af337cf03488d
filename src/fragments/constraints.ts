import { BASE, ownerOf, type TemplateFiles } from "../catalogue.ts";
import { UserError } from "../errors.ts";
import { conflict, type Plan } from "../plan.ts";
import { normalizeName } from "../tool.ts";

/** `constraints.txt`: the versions that were tested together. */
export function mergeConstraints(plan: Plan, templates: TemplateFiles): string {
  const merged = new Map<string, { owner: string; pins: string }>();
  for (const owner of [BASE, ...plan.tools.map(ownerOf)]) {
    for (const [name, lines] of Object.entries(templates[owner]?.pins ?? {})) {
      const pins = lines.join("\n");
      const first = merged.get(name);
      if (first !== undefined && first.pins !== pins) {
        throw conflict(`pin of ${name}, as "${first.pins}" and "${pins}"`, first.owner, owner);
      }
      merged.set(name, first ?? { owner, pins });
    }
  }
  const lines = [...merged].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, { pins }]) => `${pins}\n`);
  return `# The versions that were tested together.\n${lines.join("")}`;
}

/** Package → its pins, sorted: several where they differ by environment marker. */
export function readPins(constraints: string, file: string): Map<string, string[]> {
  const pins = new Map<string, string[]>();
  for (const [index, line] of constraints.split("\n").entries()) {
    const pin = line.trim();
    if (pin === "" || pin.startsWith("#")) continue;
    const name = pin.match(PIN)?.groups?.["name"];
    if (name === undefined) {
      throw new UserError({
        code: "templates",
        message: `${file}:${index + 1}: "${pin}" is no pin`,
        hint: "Write package==version, with an environment marker if need be.",
      });
    }
    const key = normalizeName(name);
    pins.set(key, [...(pins.get(key) ?? []), pin].sort());
  }
  return pins;
}

const PIN = /^(?<name>[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?)\s*==\s*[a-z0-9.!+_-]+\s*(?:;[^#]+)?$/i;
