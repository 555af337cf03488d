import { mkdir, readdir, readFile, realpath, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { environment } from "./environment.ts";

// The package from a program, as npm has installed it: where it is, is not this repository.

const ROOT = join(import.meta.dirname, "../..");
const folder = join(inject("place"), "program");

beforeAll(() => mkdir(folder));
afterAll(() => rm(folder, { recursive: true, force: true }));

function run(name: string, code: string) {
  return writeFile(join(folder, name), code).then(() =>
    execa(process.execPath, [name], { cwd: folder, env: environment(), extendEnv: false, reject: false }),
  );
}

async function example(): Promise<string> {
  const readme = await readFile(join(ROOT, "README.md"), "utf8");
  return readme.match(/^```ts\n(.*?)^```$/ms)?.[1] ?? "";
}

test("the README's example has its types, and creates a project", async () => {
  await writeFile(join(folder, "example.mts"), await example());
  const types = ["--types", "node", "--typeRoots", join(ROOT, "node_modules/@types")];
  const options = ["--noEmit", "--ignoreConfig", "--strict", "--module", "nodenext", "--target", "es2023", ...types];
  const checked = await execa(join(ROOT, "node_modules/.bin/tsc"), [...options, "example.mts"], {
    cwd: folder,
    reject: false,
  });
  expect(checked.stdout).toBe("");
  const { exitCode, stdout, stderr } = await run("example.mjs", await example());
  expect([exitCode, stderr]).toEqual([0, ""]);
  for (const part of ["database: postgres, mongodb", "'app/vector_search.py'", "services/my-app"])
    expect(stdout).toContain(part);
  expect(await readdir(join(folder, "services/my-app"))).toEqual(expect.arrayContaining([".git", "ai-stack.json"]));
});

test("a plan is what would be written, and the content of an ai-stack.json makes it again", async () => {
  const { stdout, stderr } = await run("again.mjs", AGAIN);
  expect(stderr).toBe("");
  const { created, differing, directory, again } = JSON.parse(stdout);
  expect(created.length).toBeGreaterThan(40);
  expect([differing, directory]).toEqual([[], join(await realpath(folder), "again")]);
  expect(again).toEqual(created);
});

test("what is wrong is said before anything is written", async () => {
  const { stdout, stderr } = await run("wrong.mjs", WRONG);
  expect(stderr).toBe("");
  expect(JSON.parse(stdout)).toEqual([
    ["unknown-tool", "oracle", "oracle: no such database tool.", "Take one of: postgres, mongodb."],
    ["unknown-category", "queue", "queue: no such category.", expect.stringContaining("workflow")],
    ["name", "class", expect.stringContaining("keyword"), expect.any(String)],
    ["name", "numpy", expect.stringContaining("dependency"), expect.any(String)],
    ["target", expect.stringContaining("wrong.mjs"), expect.stringContaining("is a file"), expect.any(String)],
    ["cancelled", null, "Cancelled.", "Nothing was changed."],
  ]);
  expect(await readdir(folder)).not.toContain("stopped");
});

const AGAIN = `
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { create, plan } from "create-ai-stack";

const { files, directory } = await create({ directory: "again", tools: { workflow: "prefect" }, install: false, git: false });
const differing = [...files].filter(([path, content]) => readFileSync(join(directory, path), "utf8") !== content);
const { files: again } = plan(JSON.parse(files.get("ai-stack.json")));
console.log(JSON.stringify({ created: [...files.keys()], differing, directory, again: [...again.keys()] }));
`;

const WRONG = `
import { create, plan, UserError } from "create-ai-stack";

const found = [];
for (const work of [
  () => plan({ tools: { database: "oracle" } }),
  () => plan({ tools: { queue: "redis" } }),
  () => plan({ name: "class" }),
  () => create({ directory: "numpy" }),
  () => create({ directory: "wrong.mjs" }),
  () => create({ directory: "stopped", signal: AbortSignal.abort() }),
]) {
  try {
    await work();
    found.push("nothing");
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    found.push([error.code, error.value, error.message, error.hint]);
  }
}
console.log(JSON.stringify(found));
`;
