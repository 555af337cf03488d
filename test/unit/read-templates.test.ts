import { cp, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { readTemplates } from "../../src/read-templates.ts";
import { FIXTURE } from "../fixtures.ts";

let root: string;

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "templates-"));
  await cp(FIXTURE, root, { recursive: true });
});

afterEach(() => rm(root, { recursive: true }));

test("categories come in their order, tools with the default first", async () => {
  const { catalogue } = await readTemplates(root);
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
  [
    "store/shelf/constraints.txt",
    "attrs==25.4.0\nrich>=14\n",
    'templates/store/shelf/constraints.txt:2: "rich>=14" is no pin',
  ],
  ["store/shelf/compose.yaml", "services: {", "templates/store/shelf/compose.yaml: "],
  ["store/shelf/compose.yaml", "- app", "templates/store/shelf/compose.yaml: a compose file is a map"],
  ["store/shelf/compose.yaml", "a:\n  - b", 'compose.yaml: "a:": write a value on the line of its key'],
  ["store/shelf/compose.yaml", "a: |\n  b", 'compose.yaml: "a: |": write a value on the line of its key'],
  ["store/shelf/compose.yaml", "a: &b\n  c: 1", 'compose.yaml: "a: &b": anchors and aliases'],
  ["store/shelf/compose.yaml", "? [a]\n: b", "compose.yaml: "],
  ["store/shelf/migrate_data.py", "x", "templates/store/migrate_data.py: missing"],
  ["base/migrate_data.py", "x", "templates/base/migrate_data.py: unexpected file"],
  ["view/window/without-sql/part.yaml", "title: Base", "without-sql/part.yaml: title: unknown key"],
  ["view/window/without-sql/part.yaml", "{}", "templates/view/window/without-sql/README.md: missing"],
  ["base/base.yaml", "title: Base", "templates/base/base.yaml: title: unknown key"],
])("a mistake in %s is told with its place", async (path, content, message) => {
  await mkdir(join(root, dirname(path)), { recursive: true });
  await writeFile(join(root, path), content);
  await expect(readTemplates(root)).rejects.toThrow(message);
});

test("what a tool brings where a capability is missing is read with it", async () => {
  const folder = join(root, "view/window/without-sql");
  await mkdir(join(folder, "python/app"), { recursive: true });
  await writeFile(join(folder, "part.yaml"), "dependencies: [glass>=1]\n");
  await writeFile(join(folder, "README.md"), "Nothing to see.\n");
  await writeFile(join(folder, "python/app/view.py"), "curtain\n");
  const { catalogue, files } = await readTemplates(root);
  expect(catalogue.categories[1]?.tools[0]?.fallbacks["sql"]?.dependencies).toEqual([{ requirement: "glass>=1" }]);
  expect(files["view/window/without-sql"]?.files).toEqual({ "app/view.py": "curtain\n" });
  expect(Object.keys(files["view/window"]?.files ?? {})).toEqual(["app/view.py"]);
});

test.each([
  "store/shelf/tool.yaml",
  "store/shelf/README.md",
  "store/category.yaml",
  "base/base.yaml",
  "base/compose.yaml",
])("a missing %s is a failure", async (path) => {
  await rm(join(root, path));
  await expect(readTemplates(root)).rejects.toThrow(`templates/${path}: missing`);
});
