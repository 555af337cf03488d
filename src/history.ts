import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { brotliDecompressSync } from "node:zlib";
import type { Catalogue, TemplateFiles } from "./catalogue.ts";

/** All that one version of the generator renders projects from. */
export interface Templates {
  catalogue: Catalogue;
  files: TemplateFiles;
}

/** Earlier versions in one file. Long texts stand in it once, and not at all where the current templates have them. */
export interface Archive {
  versions: Record<string, { templates: unknown; renders: string }>;
  texts: string[];
}

export const ARCHIVE_FILE = "archive.json.br";

/** What the build wrote beside the CLI. */
export function loadArchive(folder = import.meta.dirname): Archive {
  const file = join(folder, ARCHIVE_FILE);
  if (!existsSync(file)) return { versions: {}, texts: [] };
  return JSON.parse(brotliDecompressSync(readFileSync(file)).toString("utf8"));
}

/** The templates of an earlier version; undefined where the archive has none of it. */
export function unpack(version: string, archive: Archive, current: Templates): Templates | undefined {
  const packed = Object.hasOwn(archive.versions, version) ? archive.versions[version] : undefined;
  if (packed === undefined) return undefined;
  const texts = new Map<string, string>();
  const collect = (text: string) => void texts.set(referTo(text), text);
  mapTexts(current, collect);
  archive.texts.forEach(collect);
  return mapTexts(packed.templates, (text) => {
    if (!text.startsWith(MARK)) return text;
    const found = texts.get(text);
    if (found === undefined) throw new Error(`the archive of ${version} lacks a text`);
    return found;
  }) as Templates;
}

/** Of what JSON can hold, the same with other texts. */
export function mapTexts(value: unknown, change: (text: string) => unknown): unknown {
  if (typeof value === "string") return change(value);
  if (Array.isArray(value)) return value.map((item) => mapTexts(item, change));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, mapTexts(item, change)]));
}

// No template has this character: see the test of the archive.
const MARK = "\0";

/** What stands in an archive for a long text. */
export function referTo(text: string): string {
  return `${MARK}${createHash("sha256").update(text).digest("base64").slice(0, 16)}`;
}
