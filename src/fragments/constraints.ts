import type { TemplateFiles } from "../catalogue.ts";
import { UserError } from "../errors.ts";
import type { Plan } from "../plan.ts";
import { normalizeName } from "../tool.ts";

/** `constraints.txt`: the versions that were tested together. Of two, the lower one is what a tool held back to. */
export function mergeConstraints(plan: Plan, templates: TemplateFiles): string {
  const merged = new Map<string, string[]>();
  for (const owner of plan.owners) {
    for (const [name, lines] of Object.entries(templates[owner]?.pins ?? {})) {
      const first = merged.get(name);
      if (first === undefined || isLower(lines, first)) merged.set(name, lines);
    }
  }
  const lines = [...merged].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, pins]) => `${pins.join("\n")}\n`);
  return `# The versions that were tested together.\n${lines.join("")}`;
}

function isLower([pin = ""]: string[], [other = ""]: string[]): boolean {
  return pin.localeCompare(other, "en", { numeric: true }) < 0;
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
