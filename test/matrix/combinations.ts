import type { Catalogue } from "../../src/catalogue.ts";

/** Category → tool, in the order of the catalogue. */
export type Combination = Record<string, string>;

export function nameOf(combination: Combination): string {
  return Object.values(combination).join("-");
}

export function defaultOf({ categories }: Catalogue): Combination {
  return Object.fromEntries(categories.map(({ id, default: tool }) => [id, tool]));
}

export function allOf({ categories }: Catalogue): Combination[] {
  return categories.reduce<Combination[]>(
    (made, { id, tools }) => made.flatMap((combination) => tools.map((tool) => ({ ...combination, [id]: tool.id }))),
    [{}],
  );
}

/**
 * Few combinations that bring, together with the default one, any two tools of different categories side by side. Each is
 * the one that adds most, but for the first: all are tried, and the shortest way counts.
 */
export function pairwiseOf(catalogue: Catalogue): Combination[] {
  const all = allOf(catalogue);
  const start = defaultOf(catalogue);
  const ways = all.map((first) => cover(all, [start, first])).sort((a, b) => a.length - b.length);
  return (ways[0] ?? []).filter((combination) => nameOf(combination) !== nameOf(start));
}

/** The same, and more, until no pair of `all` is open. */
function cover(all: Combination[], chosen: Combination[]): Combination[] {
  const open = new Set(all.flatMap(pairsOf));
  const gain = (combination: Combination) => pairsOf(combination).filter((pair) => open.has(pair)).length;
  for (const combination of chosen) {
    for (const pair of pairsOf(combination)) open.delete(pair);
    const isLast = combination === chosen.at(-1);
    if (isLast && open.size > 0) chosen.push(all.reduce((best, next) => (gain(next) > gain(best) ? next : best)));
  }
  return chosen;
}

export function pairsOf(combination: Combination): string[] {
  const tools = Object.entries(combination).map(([category, tool]) => `${category}/${tool}`);
  return tools.flatMap((first, index) => tools.slice(index + 1).map((second) => `${first} ${second}`));
}
