import { cp, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fs from "fs-extra";
import { afterEach, beforeEach, expect, test } from "vitest";
import { readTemplates } from "../../src/read-templates.ts";
import { compileTemplate } from "../../src/template.ts";
import { FIXTURE } from "../fixtures.ts";

let root: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "templates-"));
  await cp(FIXTURE, root, { recursive: true });
});

afterEach(() => rm(root, { recursive: true }));

test("categories come in their order, tools with the default first", async () => {
  const { catalogue } = await readTemplates(root, compileTemplate);
  expect(catalogue.categories.map(({ id, tools }) => [id, tools.map((tool) => tool.id)])).toEqual([
    ["store", ["shelf", "crate"]],
    ["view", ["window"]],
  ]);
});

test.each([
  ["store/shelf/tool.yaml", "title: [", "templates/store/shelf/tool.yaml"],
  ["store/shelf/tool.yaml", "title: Shelf", "templates/store/shelf/tool.yaml: choose"],
  ["store/shelf/notes.txt", "x", "templates/store/shelf/notes.txt: unexpected file"],
  ["store/shelf/python/a.hbs", "{{#if name}}{{/if}}", "templates/store/shelf/python/a.hbs:1"],
  ["store/shelf/python/a.py", "x\r\n", "templates/store/shelf/python/a.py: has a carriage return"],
  ["store/shelf/python/a.bin", Buffer.from([0xff, 0xfe]), "templates/store/shelf/python/a.bin: is not UTF-8"],
  ["my-store/category.yaml", "x", "templates/my-store: a category's name has small letters only"],
  ["base/base.yaml", "title: Base", "templates/base/base.yaml: title: unknown key"],
])("a mistake in %s is told with its place", async (path, content, message) => {
  await fs.outputFile(join(root, path), content);
  await expect(readTemplates(root, compileTemplate)).rejects.toThrow(message);
});

test.each(["store/shelf/tool.yaml", "store/shelf/README.md", "store/category.yaml", "base/base.yaml"])(
  "a missing %s is a failure",
  async (path) => {
    await rm(join(root, path));
    await expect(readTemplates(root, compileTemplate)).rejects.toThrow(`templates/${path}: missing`);
  },
);
