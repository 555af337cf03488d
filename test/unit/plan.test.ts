import { beforeEach, expect, test } from "vitest";
import type { Catalogue } from "../../src/catalogue.ts";
import { makePlan, type Plan } from "../../src/plan.ts";
import { checkPart, type Tool } from "../../src/tool.ts";
import { ANSWERS, readFixture } from "../fixtures.ts";

let catalogue: Catalogue;
let plan: () => Plan;

beforeEach(async () => {
  ({ catalogue, plan } = await readFixture());
});

function tool(id: string): Tool {
  const found = catalogue.categories.flatMap(({ tools }) => tools).find((candidate) => candidate.id === id);
  if (found === undefined) throw new Error(`no ${id} in the fixture`);
  return found;
}

test("a plan has one tool a category and what all of them bring, in order", () => {
  const { tools, dependencies, environment, ports, nextSteps } = plan();
  expect(tools.map(({ id }) => id)).toEqual(["shelf", "window"]);
  expect(dependencies.map(({ requirement }) => requirement)).toEqual(["attrs>=25", "numpy>=2,<3", "pydantic>=2.12"]);
  expect(environment.map(({ title }) => title)).toEqual(["Application", "Shelf"]);
  expect(ports).toEqual([8000]);
  expect(nextSteps).toEqual(["Open it."]);
});

test("a need that nothing provides names who needs what, and who would provide it", () => {
  const answers = { name: "my-app", tools: { store: "crate", view: "window" } };
  expect(() => makePlan(answers, catalogue, "1")).toThrow(
    'view/window needs "sql", which none of store/crate, view/window provides.',
  );
  expect(() => makePlan(answers, catalogue, "1")).toThrow(expect.objectContaining({ hint: "Take --store shelf." }));
});

test("a fallback is taken where nothing provides what its tool needs, and nowhere else", () => {
  tool("window").fallbacks = { sql: checkPart({ dependencies: ["glass>=1"] }, "part.yaml") };
  const without = makePlan({ name: "my-app", tools: { store: "crate", view: "window" } }, catalogue, "1");
  expect(without.owners).toEqual(["base", "store/crate", "view/window", "view/window/without-sql"]);
  expect(without.dependencies.map(({ requirement }) => requirement)).toContain("glass>=1");
  expect(plan().owners).toEqual(["base", "store/shelf", "view/window"]);
  expect(plan().dependencies.map(({ requirement }) => requirement)).not.toContain("glass>=1");
});

test("one variable from two owners names both", () => {
  tool("window").environment.push({ name: "SHELF_URL", about: "Mine.", example: "", secret: false });
  expect(plan).toThrow("store/shelf and view/window both bring the environment variable SHELF_URL.");
});

test("one port from two owners names both", () => {
  tool("window").ports.push(8000);
  expect(plan).toThrow("base and view/window both bring the port 8000.");
});

test("one package with two specifiers names both owners and both specifiers", () => {
  tool("window").dependencies.push({ requirement: "Attrs>=26" });
  expect(plan).toThrow('store/shelf and view/window both bring the package attrs, as "attrs>=25" and "Attrs>=26".');
});

test("one package with one specifier from two owners is listed once, with the reason that one of them gives", () => {
  tool("window").dependencies.push({ requirement: "attrs>=25", why: "because" });
  expect(plan().dependencies.filter(({ requirement }) => requirement.startsWith("attrs"))).toEqual([
    { requirement: "attrs>=25", why: "because" },
  ]);
});

test("answers that name no tool are a bug, not a question", () => {
  expect(() => makePlan({ ...ANSWERS, tools: { store: "shelf" } }, catalogue, "1")).toThrow('no tool "undefined"');
});
