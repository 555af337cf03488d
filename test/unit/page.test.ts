import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { readTemplates } from "../../src/read-templates.ts";
import { allOf, type Combination, nameOf } from "../matrix/combinations.ts";
import { add, type Page, parse, render, stale } from "../matrix/page.ts";
import { hashOf } from "../matrix/prove.ts";

const ROOT = join(import.meta.dirname, "../..");
const { catalogue, files } = await readTemplates(join(ROOT, "templates"));
const [first, second, ...others] = allOf(catalogue) as [Combination, Combination, ...Combination[]];
const text = await readFile(join(ROOT, "docs/combinations.md"), "utf8");

/** A page on which all have passed as they are now. */
function made(): Page {
  const page = parse("");
  for (const combination of [first, second, ...others]) {
    const hash = hashOf(combination, catalogue, files);
    const outcomes = [outcome("create", 0.14), outcome("start", 2), outcome("ask", 0.5)];
    const facts = { hash, commit: "abc", date: "2026-11-27", machine: "two cores", packages: { dbos: "3.4.0" } };
    add(page, combination, { ...facts, outcomes }, catalogue);
  }
  return page;
}

function outcome(phase: string, seconds: number) {
  return { phase, result: "passed" as const, seconds, output: "" };
}

test("docs/combinations.md lists the combinations of the catalogue, and was not edited", () => {
  expect([...parse(text).rows.keys()]).toEqual(allOf(catalogue).map(nameOf));
  expect(render(parse(text), catalogue)).toBe(text);
});

test("what is written is read again, and kept for what was not run", () => {
  const page = made();
  const again = parse(render(page, catalogue));
  expect(again.rows).toEqual(page.rows);
  expect(again.runs).toEqual(page.runs);
  expect(again.versions).toEqual(page.versions);
  expect(again.versions.get(nameOf(first))).toBe("dbos 3.4.0");
  expect(again.rows.get(nameOf(first))).toMatchObject({ result: "passed", create: "0.1", answer: "2.5", tests: "-" });

  const failed = { ...outcome("install", 3), result: "failed" as const };
  const result = { hash: "f".repeat(64), commit: "def", date: "", machine: "", packages: {}, outcomes: [failed] };
  add(again, second, result, catalogue);
  expect(again.rows.get(nameOf(second))).toMatchObject({ result: "FAILED", install: "-", commit: "def" });
  expect(again.rows.get(nameOf(first))).toEqual(page.rows.get(nameOf(first)));
});

test("rows go with their combination, and come with it", () => {
  const page = made();
  page.rows.set("a-b-c-d", { ...page.rows.get(nameOf(first)) } as never);
  page.rows.delete(nameOf(second));
  const shown = parse(render(page, catalogue)).rows;
  expect(shown.has("a-b-c-d")).toBe(false);
  expect(shown.get(nameOf(second))?.result).toBe("not run");
});

test("a row is stale when its files are others; when it is missing, was never run, or is of no combination", () => {
  const page = made();
  expect(stale(page, catalogue, files)).toEqual([]);
  const owner = `observability/${second["observability"]}`;
  const owned = files[owner];
  if (owned === undefined) throw new Error(owner);
  const changed = { ...files, [owner]: { ...owned, files: { ...owned.files, "app/new.py": "" } } };
  const named = allOf(catalogue).filter(({ observability }) => observability === second["observability"]);
  expect(stale(page, catalogue, changed)).toEqual(named.map((each) => expect.stringContaining(nameOf(each))));

  page.rows.delete(nameOf(second));
  page.rows.set("a-b-c-d", page.rows.get(nameOf(first)) as never);
  expect(stale(page, catalogue, files)).toEqual([
    `${nameOf(second)}: has no row`,
    "a-b-c-d: there is no such combination",
  ]);
  expect(stale(parse(render(parse(""), catalogue)), catalogue, files)[0]).toBe(`${nameOf(first)}: not run`);
});
