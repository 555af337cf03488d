import { expect, test } from "vitest";
import { compileTemplate, lintTemplate } from "../../src/template.ts";

const DATA = {
  name: "a&b",
  recreate: "",
  tools: [],
  dependencies: [],
  dev_dependencies: [],
  ports: [],
  next_steps: [],
};

test("values are not escaped as HTML", () => {
  expect(compileTemplate("{{name}}")(DATA)).toBe("a&b");
});

test("values and plain loops pass", () => {
  lintTemplate("{{name}}{{! a comment }}{{#each tools}}\n{{title}}\n{{/each}}", "x.hbs");
});

test.each([
  ["a condition", "{{#if name}}x{{/if}}"],
  ["a section, which is a hidden condition", "{{#name}}x{{/name}}"],
  ["an inverted section", "{{^name}}x{{/name}}"],
  ["a loop with an else", "{{#each tools}}x{{else}}y{{/each}}"],
  ["a nested loop", "{{#each tools}}{{#each ports}}x{{/each}}{{/each}}"],
  ["a loop with a name for its item", "{{#each tools as |tool|}}x{{/each}}"],
  ["a helper", "{{lookup tools 0}}"],
  ["a partial", "{{> other}}"],
  ["an unknown name", "{{nmae}}"],
  ["an unknown list, which strict mode would render as empty", "{{#each tool}}x{{/each}}"],
  ["an unknown name in a loop", "{{#each tools}}{{name}}{{/each}}"],
  ["a list as a value", "{{tools}}"],
  ["raw HTML", "{{{nmae}}}"],
  ["an unclosed loop", "{{#each tools}}x"],
])("%s is refused, file named", (_, source) => {
  expect(() => lintTemplate(source, "x.hbs")).toThrow(/^x\.hbs/);
});

test("the line is named", () => {
  expect(() => lintTemplate("one\ntwo {{nope}}", "x.hbs")).toThrow("x.hbs:2: {{nope}} is unknown here");
});
