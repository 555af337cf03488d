import { diffIndices } from "node-diff3";

/** Three states of one text. */
interface Texts {
  base: string;
  ours: string;
  theirs: string;
}

export interface LineMerge {
  text: string;
  /** How many pairs of markers it has. */
  conflicts: number;
}

/**
 * How near two changes may come. `apart`: as in git, changes that touch are in conflict. `touching`: they are when they
 * share a line, which suits lists of entries, where a new one beside a changed one says nothing against either.
 */
export type Nearness = "apart" | "touching";

/** Merges by lines. Where both sides change the same lines, both are there, between the usual markers. */
export function mergeLines(texts: Texts, label: string, nearness: Nearness): LineMerge {
  const [base, ours, theirs] = [readLines(texts.base), readLines(texts.ours), readLines(texts.theirs)];
  const own = hunksOf(base.lines, ours.lines, "ours");
  const others = hunksOf(base.lines, theirs.lines, "theirs").flatMap((hunk) =>
    nearness === "apart" || own.some((mine) => sameHunk(mine, hunk)) ? hunk : splitEntries(hunk, base.lines),
  );
  const hunks = [...others, ...own];
  hunks.sort((a, b) => a.start - b.start || a.end - b.end);
  const merged: string[] = [];
  let conflicts = 0;
  let done = 0;
  for (const group of groupHunks(hunks, nearness)) {
    merged.push(...base.lines.slice(done, group.start));
    const [mine, other] = [resultOf("ours", group, base.lines), resultOf("theirs", group, base.lines)];
    if (other === undefined || sameLines(mine, other)) merged.push(...(mine ?? []));
    else if (mine === undefined) merged.push(...other);
    else {
      merged.push(`${"<".repeat(7)} yours`, ...mine, "=".repeat(7), ...other, `${">".repeat(7)} ${label}`);
      conflicts += 1;
    }
    done = group.end;
  }
  merged.push(...base.lines.slice(done));
  const ending = ours.ending === base.ending ? theirs.ending : ours.ending;
  return { text: `${merged.join("\n")}${merged.length === 0 ? "" : ending || (conflicts > 0 ? "\n" : "")}`, conflicts };
}

/** Lines `start` to `end` of the base become these. */
interface Hunk {
  side: "ours" | "theirs";
  start: number;
  end: number;
  lines: string[];
}

interface Group {
  start: number;
  end: number;
  hunks: Hunk[];
}

/** The end of the last line stands aside: a text that lacks it has no other last line. */
function readLines(text: string): { lines: string[]; ending: "\n" | "" } {
  if (text === "") return { lines: [], ending: "" };
  return text.endsWith("\n")
    ? { lines: text.slice(0, -1).split("\n"), ending: "\n" }
    : { lines: text.split("\n"), ending: "" };
}

function hunksOf(base: string[], changed: string[], side: Hunk["side"]): Hunk[] {
  return diffIndices(base, changed).map(({ buffer1: [start, length], buffer2Content: lines }) => ({
    ...{ side, start, end: start + length, lines },
  }));
}

// An item of a list that has one a line, such as a dependency.
const ENTRY = /^\s+"[^"]*",(?:\s*#.*)?$/;

/** Entries come and go each for itself: between two that go, there is room for one of the user's. */
function splitEntries(hunk: Hunk, base: string[]): Hunk[] {
  const removed = base.slice(hunk.start, hunk.end);
  if (![...removed, ...hunk.lines].every((line) => ENTRY.test(line))) return [hunk];
  const removals = removed.map((_, index) => ({
    ...{ side: hunk.side, start: hunk.start + index, end: hunk.start + index + 1, lines: [] },
  }));
  return hunk.lines.length === 0 ? removals : [{ ...hunk, end: hunk.start }, ...removals];
}

function groupHunks(hunks: Hunk[], nearness: Nearness): Group[] {
  const groups: Group[] = [];
  for (const hunk of hunks) {
    const last = groups.at(-1);
    if (last !== undefined && belongs(hunk, last, nearness)) {
      last.hunks.push(hunk);
      last.end = Math.max(last.end, hunk.end);
    } else {
      groups.push({ start: hunk.start, end: hunk.end, hunks: [hunk] });
    }
  }
  return groups;
}

function belongs(hunk: Hunk, group: Group, nearness: Nearness): boolean {
  if (hunk.start < group.end) return true;
  if (hunk.start > group.end) return false;
  return nearness === "apart" || group.hunks.some((other) => sameHunk(other, hunk));
}

/** What a side makes of a group's lines; undefined where it leaves them as they are. */
function resultOf(side: Hunk["side"], { start, end, hunks }: Group, base: string[]): string[] | undefined {
  const own = hunks.filter((hunk) => hunk.side === side);
  if (own.length === 0) return undefined;
  let done = start;
  const lines = own.flatMap((hunk) => {
    const before = base.slice(done, hunk.start);
    done = hunk.end;
    return [...before, ...hunk.lines];
  });
  return [...lines, ...base.slice(done, end)];
}

function sameHunk(one: Hunk, other: Hunk): boolean {
  return one.start === other.start && one.end === other.end && sameLines(one.lines, other.lines);
}

function sameLines(some: string[] | undefined, others: string[]): boolean {
  return some !== undefined && some.length === others.length && some.every((line, index) => line === others[index]);
}
