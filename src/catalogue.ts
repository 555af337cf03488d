import { readFileSync } from "node:fs";
import { join } from "node:path";
import { brotliDecompressSync } from "node:zlib";
import type { ComposeMap } from "./fragments/compose.ts";
import type { DataMove } from "./move-data.ts";
import type { Template } from "./template.ts";
import type { Category, Part, Tool } from "./tool.ts";

/** What can be chosen: small, loaded by every command. */
export interface Catalogue {
  base: Part;
  categories: Category[];
}

/** What an owner (the base, or a tool) brings along besides its manifest. */
export interface OwnedFiles {
  /** The owner's section of the README; the base has none. */
  section: string;
  /** Package → its pins, of constraints.txt. */
  pins: Record<string, string[]>;
  /** Its part of compose.yaml. */
  compose: ComposeMap;
  /** Path in the project → content. */
  files: Record<string, string>;
  /** Path in the project → what renders its content. */
  templates: Record<string, Template>;
  /** What moves a tool's data to and from others of its category; absent where nothing does. */
  move?: DataMove;
}

/** Owner → its files, an owner being `base`, `<category>/<tool>` or `<category>/<tool>/without-<capability>`. Large, loaded only to create a project. */
export type TemplateFiles = Record<string, OwnedFiles>;

export const BASE = "base";

/** A tool's folder for what it brings where a capability is missing begins so, and ends with the capability. */
export const FALLBACK = "without-";

export function ownerOf(tool: Tool): string {
  return `${tool.category}/${tool.id}`;
}

/** What the build wrote beside the CLI. */
export function loadTemplateFiles(): TemplateFiles {
  const packed = readFileSync(join(import.meta.dirname, "templates.json.br"));
  return JSON.parse(brotliDecompressSync(packed).toString("latin1"));
}
