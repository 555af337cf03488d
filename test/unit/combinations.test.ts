import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Catalogue } from "../../src/catalogue.ts";
import { readTemplates } from "../../src/read-templates.ts";
import { allOf, type Combination, defaultOf, nameOf, pairsOf, pairwiseOf } from "../matrix/combinations.ts";
import { hashOf } from "../matrix/prove.ts";

const TEMPLATES = join(import.meta.dirname, "../../templates");
const { catalogue, files } = await readTemplates(TEMPLATES);

/** A catalogue with so many tools in each category. */
function made(...counts: number[]): Catalogue {
  const [first] = catalogue.categories;
  const [tool] = first?.tools ?? [];
  if (first === undefined || tool === undefined) throw new Error("no tool");
  const categories = counts.map((count, category) => {
    const tools = Array.from({ length: count }, (_, index) => ({ ...tool, id: `tool${category}${index}` }));
    return { ...first, id: `category${category}`, default: `tool${category}0`, tools };
  });
  return { ...catalogue, categories };
}

test("all combinations are there, once", () => {
  const names = allOf(catalogue).map(nameOf);
  expect(names.length).toBe(catalogue.categories.reduce((product, { tools }) => product * tools.length, 1));
  expect(new Set(names).size).toBe(names.length);
  expect(names[0]).toBe(nameOf(defaultOf(catalogue)));
});

// The least are as many as the two largest categories have pairs, without the default one: one more is tolerable.
describe.each<[string, Catalogue, atMost: number]>([
  ["the catalogue", catalogue, 7],
  ["one of each", made(1, 1, 1, 1), 0],
  ["two databases, APIs and engines", made(2, 2, 2, 1), 3],
  ["two of each", made(2, 2, 2, 2), 5],
  ["two, two, two and four", made(2, 2, 2, 4), 7],
  ["three of each", made(3, 3, 3, 3), 10],
])("pairwise, %s", (_, tools, atMost) => {
  const chosen = pairwiseOf(tools);

  test("each pair of tools is in one of them, or in the default combination", () => {
    const covered = new Set([defaultOf(tools), ...chosen].flatMap(pairsOf));
    expect(
      allOf(tools)
        .flatMap(pairsOf)
        .filter((pair) => !covered.has(pair)),
    ).toEqual([]);
  });

  test("they are few, differ, and do not repeat the default combination, which the stack tests run", () => {
    const names = chosen.map(nameOf);
    expect(names.length).toBeLessThanOrEqual(atMost);
    expect(new Set(names).size).toBe(names.length);
    expect(names).not.toContain(nameOf(defaultOf(tools)));
    expect(pairwiseOf(tools)).toEqual(chosen);
  });
});

test("the hash of a combination changes with its own files alone", () => {
  const [first, second] = allOf(catalogue) as [Combination, Combination];
  const [tool] = Object.entries(second).find(([category, id]) => first[category] !== id) ?? [""];
  const owner = `${tool}/${second[tool]}`;
  const owned = files[owner];
  if (owned === undefined) throw new Error(owner);
  const changed = { ...files, [owner]: { ...owned, files: { ...owned.files, "app/new.py": "" } } };
  expect(hashOf(first, catalogue, changed)).toBe(hashOf(first, catalogue, files));
  expect(hashOf(second, catalogue, changed)).not.toBe(hashOf(second, catalogue, files));
});
