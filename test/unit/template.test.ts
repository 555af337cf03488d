import Handlebars from "handlebars";
import { expect, test } from "vitest";
import { compileTemplate } from "../../src/compile-template.ts";
import { renderTemplate } from "../../src/template.ts";

const DATA = {
  name: "a&b",
  recreate: "",
  tools: [],
  dependencies: [],
  dev_dependencies: [],
  ports: [{ port: "1" }, { port: "2" }],
  next_steps: [],
};

test("values are not escaped as HTML", () => {
  expect(renderTemplate(compileTemplate("{{name}}", "x.hbs"), DATA)).toBe("a&b");
});

test("values and plain loops are rendered as handlebars renders them", () => {
  const source =
    "{{name}}: {{! a comment }}\n{{#each ports}}\n  - {{port}}\n{{/each}}\nend\n{{#each tools}}never{{/each}}";
  const expected = Handlebars.compile(source, { noEscape: true })(DATA);
  expect(expected).toBe("a&b: \n  - 1\n  - 2\nend\n");
  expect(renderTemplate(compileTemplate(source, "x.hbs"), DATA)).toBe(expected);
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
  expect(() => compileTemplate(source, "x.hbs")).toThrow(/^x\.hbs/);
});

test("the line is named", () => {
  expect(() => compileTemplate("one\ntwo {{nope}}", "x.hbs")).toThrow("x.hbs:2: {{nope}} is unknown here");
});
