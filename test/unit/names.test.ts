import fc from "fast-check";
import { expect, test } from "vitest";
import { refuseName, suggestName } from "../../src/names.ts";

const TAKEN = new Set(["pydantic", "typing-extensions"]);
// The expression of the specification of core metadata, for the field Name.
const DISTRIBUTION = /^([A-Z0-9]|[A-Z0-9][A-Z0-9._-]*[A-Z0-9])$/i;

test.each(["my-app", "a", "Answers2", "my_app", "team.answers", "0ad", "a--b"])("%s is a name", (name) => {
  expect(refuseName(name, TAKEN)).toBeUndefined();
});

test.each([
  ["", "it is empty", "my-app"],
  ["My App", "a Python distribution has", "my-app"],
  ["café", "a Python distribution has", "cafe"],
  ["ответы", "a Python distribution has", "my-app"],
  ["-x-", "a Python distribution has", "x"],
  ["..", "a Python distribution has", "my-app"],
  ["class", "a keyword", "class-app"],
  ["None", "a keyword", "none-app"],
  ["CON", "Windows reserves it", "con-app"],
  ["nul.app", "Windows reserves it", "my-nul.app"],
  ["json", "standard library", "json-app"],
  ["test", "already exists", "test-app"],
  ["List", "a command of create-ai-stack", "list-app"],
  ["help", "a command of create-ai-stack", "help-app"],
  ["swap", "a command of create-ai-stack", "swap-app"],
  ["update", "a command of create-ai-stack", "update-app"],
  ["app", "already exists", "my-app"],
  ["pip", "already exists", "pip-app"],
  ["Pydantic", "a dependency", "pydantic-app"],
  ["typing_extensions", "a dependency", "typing_extensions-app"],
])("%s is refused: %s; suggested: %s", (name, reason, suggestion) => {
  expect(refuseName(name, TAKEN)).toContain(reason);
  expect(suggestName(name, TAKEN)).toBe(suggestion);
});

test("every suggestion is a name, whatever was typed", () => {
  const names = fc.oneof(
    fc.string({ unit: "grapheme" }),
    fc.string({ unit: "binary-ascii" }),
    fc.stringMatching(/^[A-Za-z0-9._-]{0,12}$/),
    fc.constantFrom("con.con", "nul.", "com1-", "app", "APP.", "_json_", "uv.uv", "my-app"),
  );
  fc.assert(
    fc.property(names, fc.uniqueArray(fc.constantFrom("my-app", "a", "b-app", "my-b")), (name, taken) => {
      expect(refuseName(suggestName(name, new Set(taken)), new Set(taken))).toBeUndefined();
    }),
    { numRuns: 2000 },
  );
});

test("whatever passes is a distribution's name, and none that is taken", () => {
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom(..."abcXYZ019._- /é") }), (name) => {
      if (refuseName(name, TAKEN) !== undefined) return;
      expect(name).toMatch(DISTRIBUTION);
      expect(TAKEN).not.toContain(name.toLowerCase().replace(/[-_.]+/g, "-"));
    }),
    { numRuns: 5000 },
  );
});
