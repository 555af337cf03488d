import type { Combination } from "../../test/matrix/combinations.ts";

/** A package in use, beside what its registry has. */
export interface Dependency {
  name: string;
  used: string;
  newest: string;
  /** Whether a manifest names it; else other packages need it. */
  direct: boolean;
  /** The combinations, or what else uses it. */
  where: string;
  /** What holds the newest release back; nothing, where it could be taken as it is. */
  hold?: Hold | undefined;
}

export interface Hold {
  text: string;
  /** Whether that is a reason: one written beside a cap, or the requirement of a package that is named. */
  explained: boolean;
}

export function isNewerMajor({ used, newest }: Pick<Dependency, "used" | "newest">): boolean {
  const [usedEpoch, usedMajor] = majorOf(used);
  const [epoch, major] = majorOf(newest);
  return epoch > usedEpoch || (epoch === usedEpoch && major > usedMajor);
}

export function isUnexplained(dependency: Dependency): boolean {
  return isNewerMajor(dependency) && dependency.hold?.explained !== true;
}

export function table(dependencies: Dependency[]): string {
  const rows = dependencies.map((dependency) => {
    const { name, used, newest, where } = dependency;
    return [name, used, used === newest ? "=" : newest, where, used === newest ? "" : holdText(dependency)];
  });
  const lines = [["package", "in use", "newest", "where", "held back by"], ...rows];
  const widths = lines[0]?.map((_, column) => Math.max(...lines.map((line) => line[column]?.length ?? 0))) ?? [];
  const print = (line: string[]) => line.map((text, column) => text.padEnd(widths[column] ?? 0)).join("  ");
  return lines.map((line) => print(line).trimEnd()).join("\n");
}

/** The fewest tools, or sets of tools, that just these combinations have: `all`, `prefect`, `mongodb+dbos`. */
export function whereOf(some: Combination[], all: Combination[]): string {
  const sets = all.flatMap((combination) => subsets(Object.values(combination))).sort((a, b) => a.length - b.length);
  const open = new Set(some);
  const names: string[] = [];
  for (const tools of sets) {
    const having = all.filter((combination) => tools.every((tool) => Object.values(combination).includes(tool)));
    if (!having.every((combination) => some.includes(combination))) continue;
    if (having.some((combination) => open.has(combination))) names.push(tools.join("+") || "all");
    for (const combination of having) open.delete(combination);
  }
  return names.join(", ");
}

function holdText({ hold, ...versions }: Dependency): string {
  const text = hold?.text ?? "nothing";
  return isUnexplained({ hold, ...versions }) ? `${text} (not explained)` : text;
}

/** PEP 440's epoch, which npm has not, and the first number. */
function majorOf(version: string): [epoch: number, major: number] {
  const [, epoch = "0", major] = version.match(/^(?:(\d+)!)?(\d+)/) ?? [];
  if (major === undefined) throw new Error(`no version: ${version}`);
  return [Number(epoch), Number(major)];
}

function subsets(items: string[]): string[][] {
  const made: string[][] = [[]];
  for (const item of items) made.push(...made.map((subset) => [...subset, item]));
  return made;
}
