import { mergeLines, type Nearness } from "./merge-lines.ts";
import type { FileMap } from "./render.ts";

/** One project three times. Of the user's files, those alone count that the other two differ in. */
export interface Sides {
  /** As it was rendered when it was made. */
  base: FileMap;
  ours: ReadonlyMap<string, Uint8Array>;
  /** As it is rendered now. */
  theirs: FileMap;
}

export interface Change {
  path: string;
  /** `skip`: the user has deleted it, and it stays deleted. */
  action: "add" | "replace" | "merge" | "delete" | "conflict" | "skip";
  /** What the file holds afterwards; null: it is gone. Absent where nothing is written. */
  content?: string | null;
  /** Of a conflict without markers: where the user's file is kept. */
  kept?: string;
}

export interface Rules {
  /** `whole`: two versions of that file have nothing in common, or too much to be compared by lines. */
  mergeBy(path: string): Nearness | "whole";
  /** Whose the new lines are, for the markers. */
  label: string;
  /** Where a file of that path can be kept beside it. */
  keepAs(path: string): string;
}

/** The changes that carry the user's work over. No line of the user's disappears without a conflict. */
export function merge(sides: Sides, rules: Rules): Change[] {
  return differingPaths(sides.base, sides.theirs).flatMap((path) => mergeFile(path, sides, rules) ?? []);
}

/** Whatever is the same before and after is none of this command's business. */
export function differingPaths(base: FileMap, theirs: FileMap): string[] {
  const paths = new Set([...base.keys(), ...theirs.keys()]);
  return [...paths].filter((path) => base.get(path) !== theirs.get(path)).sort();
}

function mergeFile(path: string, sides: Sides, rules: Rules): Change | undefined {
  const [base, theirs, bytes] = [sides.base.get(path), sides.theirs.get(path), sides.ours.get(path)];
  if (bytes === undefined) {
    if (theirs === undefined) return undefined;
    return base === undefined ? { path, action: "add", content: theirs } : { path, action: "skip" };
  }
  const { text, restore } = readText(bytes);
  if (text !== undefined && text === theirs) return undefined;
  if (text !== undefined && text === base) {
    return theirs === undefined
      ? { path, action: "delete", content: null }
      : { path, action: "replace", content: restore(theirs) };
  }
  const by = rules.mergeBy(path);
  if (by === "whole" || text === undefined || base === undefined || theirs === undefined || isLarge(theirs)) {
    const content = theirs === undefined ? null : restore(theirs);
    return { path, action: "conflict", content, kept: rules.keepAs(path) };
  }
  const merged = mergeLines({ base, ours: text, theirs }, rules.label, by);
  if (merged.text === text) return undefined;
  return { path, action: merged.conflicts > 0 ? "conflict" : "merge", content: restore(merged.text) };
}

/** The text with plain line ends, and how to give it its own ones again. */
function readText(bytes: Uint8Array): { text: string | undefined; restore: (text: string) => string } {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return { text: undefined, restore: (content) => content };
  }
  const plain = text.replaceAll("\r\n", "\n");
  const isCrlf = 2 * (text.length - plain.length) > plain.split("\n").length - 1;
  return { text: plain, restore: (content) => (isCrlf ? content.replaceAll("\n", "\r\n") : content) };
}

/** Data, of which nobody would read a merge. */
function isLarge(text: string): boolean {
  return text.length > 100_000;
}
