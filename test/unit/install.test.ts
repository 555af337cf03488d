import { expect, test } from "vitest";
import { pinUv } from "../../src/fragments/pins.ts";
import { tail } from "../../src/install.ts";
import { wrap } from "../../src/output.ts";
import { runnerOf } from "../../src/recreate.ts";

const CONSTRAINTS = "# tested\nattrs==25.4.0\nrich==14.0 ; python_version < '3.12'\n";
const PINS = 'constraint-dependencies = [\n  "attrs==25.4.0",\n  "rich==14.0 ; python_version < \'3.12\'",\n]\n';

test("the tested versions become uv's constraints in a table of their own", () => {
  expect(pinUv('[project]\nname = "a"\n', CONSTRAINTS)).toBe(`[project]\nname = "a"\n\n[tool.uv]\n${PINS}`);
});

test("or in the table that is there", () => {
  expect(pinUv("[tool.uv]\npackage = true\n\n[tool.uv.x]\n", CONSTRAINTS)).toBe(
    `[tool.uv]\n${PINS}package = true\n\n[tool.uv.x]\n`,
  );
});

test("an error's output is cut to its end and shows no password", () => {
  const output = `${"line\n".repeat(40)}error: no https://user:secret@host.example/simple and https://token@host.example\n\n`;
  expect(tail(output).split("\n")).toHaveLength(15);
  expect(tail(output)).toMatch(/error: no https:\/\/\*\*\*@host\.example\/simple and https:\/\/\*\*\*@host\.example$/);
});

test("long texts break at spaces and are indented", () => {
  expect(wrap("aaa bbb ccc", 9, "  ")).toBe("aaa bbb\n  ccc");
});

test.each([
  [undefined, "npx"],
  ["npm/11.0.0 node/v22.0.0 linux x64", "npx"],
  ["pnpm/10.1.0 npm/? node/v22.0.0", "pnpm"],
  ["bun/1.2.0", "bun"],
  ["yarn/4.5.0 npm/?", "yarn"],
  ["yarn/1.22.0 npm/?", "npx"],
  ["toString/1", "npx"],
])("the user agent %s is %s", (agent, runner) => {
  expect(runnerOf(agent)).toBe(runner);
});
