import { expect, test } from "vitest";
import { checkCategory, checkPart, checkTool, packageOf } from "../../src/tool.ts";

const MANIFEST = { title: "Shelf", choose: "Order.", avoid: "No wall.", homepage: "https://shelf.example" };

test("a manifest becomes a tool, with empty lists for what it leaves out", () => {
  expect(checkTool(MANIFEST, "tool.yaml", "store", "shelf", {})).toEqual({
    ...{ id: "shelf", category: "store", ...MANIFEST, emulated: "", fallbacks: {} },
    ...{ needs: [], provides: [], dependencies: [], devDependencies: [], environment: [], ports: [], nextSteps: [] },
  });
});

test.each([
  ["a missing text", { title: undefined }, "tool.yaml: title: expected a text, found nothing"],
  ["a wrong type", { title: 3 }, "tool.yaml: title: expected a text, found 3"],
  ["two lines of what is emulated", { emulated: "a\nb" }, "tool.yaml: emulated: must be one line"],
  ["a Python that is none", { python: { below: "4", why: "x" } }, "tool.yaml: python: below: is no version"],
  ["a Python without a reason", { python: { below: "3.14" } }, "tool.yaml: python: why: expected a text"],
  ["a line with a break", { choose: "a\nb" }, "tool.yaml: choose: must be one line"],
  ["an unknown key", { colour: "red" }, "tool.yaml: colour: unknown key; known are title, choose"],
  ["a text for a list", { needs: "sql" }, 'tool.yaml: needs: expected a list, found "sql"'],
  ["a wrong item", { provides: [1] }, "tool.yaml: provides[0]: expected a text, found 1"],
  ["a port that is no number", { ports: ["x"] }, 'tool.yaml: ports[0]: expected a whole number, found "x"'],
  [
    "a requirement with a URL",
    { dependencies: ["a @ https://b.example/a.whl"] },
    "tool.yaml: dependencies[0]: is no requirement",
  ],
  ["a requirement with a quote", { dependencies: ['a>=1; x == "y"'] }, "tool.yaml: dependencies[0]: is no requirement"],
  ["a cap without a reason", { dependencies: ["a>=1,<2"] }, 'tool.yaml: dependencies[0]: "a>=1,<2" caps a version'],
  ["an exact pin without a reason", { dev_dependencies: ["a==1"] }, "tool.yaml: dev_dependencies[0]"],
  ["a compatible release without a reason", { dependencies: ["a~=1.2"] }, "tool.yaml: dependencies[0]"],
  ["an excluded version without a reason", { dependencies: ["a!=1.2"] }, "tool.yaml: dependencies[0]"],
  [
    "a reason that is missing",
    { dependencies: [{ requirement: "a<2" }] },
    "tool.yaml: dependencies[0]: why: expected a text",
  ],
  [
    "a variable without a sentence",
    { environment: [{ name: "A" }] },
    "tool.yaml: environment[0]: about: expected a text",
  ],
  [
    "a variable in small letters",
    { environment: [{ name: "a", about: "b" }] },
    'tool.yaml: environment[0]: name: is no environment variable: "a"',
  ],
  [
    "an example that is a number",
    { environment: [{ name: "A", about: "b", example: 1 }] },
    "tool.yaml: environment[0]: example: expected a text, found 1",
  ],
  [
    "an unknown key of a variable",
    { environment: [{ name: "A", about: "b", default: "" }] },
    "tool.yaml: environment[0]: default: unknown key",
  ],
])("%s is refused, file and key named", (_, change, message) => {
  expect(() => checkTool({ ...MANIFEST, ...change }, "tool.yaml", "store", "shelf", {})).toThrow(message);
});

test("a fallback for what the tool does not need is refused", () => {
  const fallbacks = { sql: checkPart({}, "part.yaml") };
  expect(() => checkTool(MANIFEST, "tool.yaml", "store", "shelf", fallbacks)).toThrow(
    'tool.yaml: needs: does not name "sql", which there is a fallback for',
  );
});

test("a manifest that is no mapping is refused", () => {
  expect(() => checkPart(["a"], "base.yaml")).toThrow("base.yaml: expected a mapping, found a list");
});

test("what looks like a cap in an environment marker is none", () => {
  const part = checkPart({ dependencies: ["a>=1; sys_platform == 'win32'"] }, "base.yaml");
  expect(part.dependencies).toEqual([{ requirement: "a>=1; sys_platform == 'win32'" }]);
});

test("a category's default must be one of its tools", () => {
  const tool = checkTool(MANIFEST, "tool.yaml", "store", "shelf", {});
  const category = { question: "Where?", about: "Keeps.", default: "crate", order: 1 };
  expect(() => checkCategory(category, "category.yaml", "store", [tool])).toThrow(
    "category.yaml: default: names no tool",
  );
});

test.each([
  ["psycopg[binary]>=3.3", "psycopg"],
  ["Typing_Extensions", "typing-extensions"],
  ["zope.interface ; python_version > '3'", "zope-interface"],
])("the package of %s is %s", (requirement, name) => {
  expect(packageOf(requirement)).toBe(name);
});
