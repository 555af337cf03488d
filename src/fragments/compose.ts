import type { TemplateFiles } from "../catalogue.ts";
import { conflict, type Plan } from "../plan.ts";

/** A map of a compose file: key → a map, or a value as it is written there. */
export interface ComposeMap {
  [key: string]: ComposeMap | string;
}

/** `compose.yaml`: the maps of all owners become one, as when Compose gets several files, but a value has one owner. */
export function mergeCompose(plan: Plan, templates: TemplateFiles): string {
  const merged: ComposeMap = {};
  const owners = new Map<string, string>();
  for (const owner of plan.owners) {
    merge(merged, templates[owner]?.compose ?? {}, owner, owners, "");
  }
  return write(merged, "");
}

function merge(into: ComposeMap, added: ComposeMap, owner: string, owners: Map<string, string>, above: string): void {
  for (const [key, value] of Object.entries(added)) {
    const path = `${above}${key}`;
    const first = owners.get(path);
    const present = into[key];
    if (first === undefined) owners.set(path, owner);
    if (typeof value === "object" && typeof present !== "string") {
      const inner = present ?? {};
      into[key] = inner;
      merge(inner, value, owner, owners, `${path}.`);
    } else if (first === undefined) {
      into[key] = value;
    } else {
      throw conflict(`key ${path} of compose.yaml`, first, owner);
    }
  }
}

function write(map: ComposeMap, indent: string): string {
  const entries = Object.entries(map).map(([key, value]) =>
    typeof value === "string"
      ? `${`${indent}${key}: ${value}`.trimEnd()}\n`
      : `${indent}${key}:\n${write(value, `${indent}  `)}`,
  );
  return entries.join(indent === "  " ? "\n" : ""); // one service, one paragraph
}
