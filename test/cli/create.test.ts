import { mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import fc from "fast-check";
import { expect, test } from "vitest";
import { entry, environment, makeFolder, readTree, run, tempFolder } from "./run.ts";

const QUICK = ["--yes", "--no-install", "--no-git"];

test("--yes makes a whole project of the defaults", async () => {
  const cwd = await tempFolder();
  const { exitCode, stdout } = await run(QUICK, { cwd });
  expect(exitCode).toBe(0);
  const files = await readTree(cwd);
  expect(Object.keys(files)).toContain("my-app/ai-stack.json");
  expect(files["my-app/app/store.py"]).toBe('KIND = "shelf"\n');
  expect(stdout).toContain("  cd my-app\n");
  expect(stdout).toContain("  Open it.\n");
  expect(Object.keys(files).every((path) => path.startsWith("my-app/"))).toBe(true);
});

test("the command it prints makes the same project", async () => {
  const [first, second] = [await tempFolder(), await tempFolder()];
  const { stdout } = await run(["a b/team-app", ...QUICK, "--json"], { cwd: first });
  const { recreate } = JSON.parse(stdout);
  expect(recreate).toBe("npx create-ai-stack@0.1.0 'a b/team-app' --store shelf --view window --no-install --no-git");
  const args = recreate.split(" ").slice(4);
  expect((await run(["a b/team-app", ...args], { cwd: second })).exitCode).toBe(0);
  expect(await readTree(second)).toEqual(await readTree(first));
});

test("--from makes the same project from its ai-stack.json, by file or stdin; flags count more", async () => {
  const cwd = await tempFolder();
  await run(["team-app", ...QUICK], { cwd });
  const file = join(cwd, "team-app/ai-stack.json");
  const again = await makeFolder(cwd, "again");
  expect(await run(["--from", file, "--no-install", "--no-git"], { cwd: again })).toMatchObject({ exitCode: 0 });
  expect(await readTree(join(again, "team-app"))).toEqual(await readTree(join(cwd, "team-app")));
  const fromStdin = async (...flags: string[]) => {
    const args = [entry(), "other-app", "--from", "-", "--dry-run", "--json", ...flags];
    const options = { cwd, env: environment(), extendEnv: false, inputFile: file, reject: false };
    return JSON.parse((await execa(process.execPath, args, options)).stdout);
  };
  expect(await fromStdin()).toMatchObject({ name: "other-app", tools: { store: "shelf", view: "window" } });
  expect(await fromStdin("--store", "crate")).toMatchObject({ error: { code: "needs", value: "sql" } });
});

test("--from refuses what is no ai-stack.json, or has choices that there are not, and writes nothing", async () => {
  const cwd = await tempFolder();
  const choices = { generator: "create-ai-stack", version: "0.1.0", name: "my-app", tools: { store: "shelf" } };
  for (const [content, message] of [
    ["{", /choices\.json is damaged: it is no JSON/],
    [JSON.stringify(choices), /"tools" lacks "view", which is one of/],
    [JSON.stringify({ ...choices, tools: { store: "attic", view: "window" } }), /the tool of "store" must be one of/],
    [JSON.stringify({ ...choices, name: "a/b" }), /"name" must be the name of a Python distribution/],
  ] as const) {
    await writeFile(join(cwd, "choices.json"), content);
    const { exitCode, stdout } = await run(["--from", "choices.json", "--json"], { cwd });
    expect([exitCode, JSON.parse(stdout).error.message]).toEqual([2, expect.stringMatching(message)]);
  }
  const { stderr } = await run(["--from", "none.json"], { cwd });
  expect(stderr).toMatch(/--from none\.json cannot be read: ENOENT.*Give an ai-stack\.json, or - for stdin/);
  expect(Object.keys(await readTree(cwd))).toEqual(["choices.json"]);
});

test("the command it prints is one of the package manager that started it", async () => {
  const env = { npm_config_user_agent: "pnpm/10.0.0 npm/? node/v22" };
  const { stdout } = await run([...QUICK, "--dry-run", "--json"], { cwd: await tempFolder(), env });
  expect(JSON.parse(stdout).recreate).toMatch(/^pnpm dlx create-ai-stack@/);
});

test("--json describes what was made", async () => {
  const cwd = await tempFolder();
  const { stdout } = await run([...QUICK, "--json"], { cwd });
  const result = JSON.parse(stdout);
  expect(result).toMatchObject({
    ok: true,
    dryRun: false,
    name: "my-app",
    directory: join(cwd, "my-app"),
    tools: { store: "shelf", view: "window" },
    notes: [],
  });
  expect(result.files).toEqual(Object.keys(await readTree(join(cwd, "my-app"))));
});

test("--dry-run shows files, dependencies and variables, and writes nothing", async () => {
  const cwd = await tempFolder();
  const { exitCode, stdout } = await run(["--yes", "--dry-run"], { cwd });
  expect(exitCode).toBe(0);
  for (const part of [
    "my-app/\n",
    "  app/\n    __init__.py\n    __main__.py\n    store.py\n    view.py\n  compose.yaml\n  constraints.txt\n",
    "  numpy>=2,<3\n",
    "  pytest>=9\n",
    "  SHELF_URL  Where the shelf is.\n",
  ]) {
    expect(stdout).toContain(part);
  }
  expect(await readTree(cwd)).toEqual({});
});

test.each(["a/b/my-app", "with space/my-app", "проект/my-app", "./my-app/", "../x/my-app"])(
  "%s works",
  async (directory) => {
    const cwd = await makeFolder(await tempFolder(), "cwd");
    const { exitCode, stdout } = await run([directory, ...QUICK, "--json"], { cwd });
    expect(exitCode).toBe(0);
    expect(Object.keys(await readTree(join(cwd, directory)))).toEqual(JSON.parse(stdout).files);
  },
);

test("whatever the folders above are called, the project is whole and entered as printed", async () => {
  const folder = fc.string({ unit: "grapheme", minLength: 1, maxLength: 12 }).filter(isFolderName);
  await fc.assert(
    fc.asyncProperty(fc.array(folder, { minLength: 1, maxLength: 3 }), async (parents) => {
      const cwd = await tempFolder();
      // A path that begins with a dash is no flag after `./`.
      const { exitCode, stdout } = await run([`./${parents.join("/")}/my-app`, ...QUICK, "--json"], { cwd });
      expect(exitCode).toBe(0);
      const { files, nextSteps } = JSON.parse(stdout);
      expect(Object.keys(await readTree(join(cwd, ...parents, "my-app")))).toEqual(files);
      const { stdout: entered } = await execa("sh", ["-c", `${nextSteps[0]} && ls ai-stack.json`], { cwd });
      expect(entered).toBe("ai-stack.json");
    }),
    { numRuns: 15 },
  );
});

test("an absolute path works", async () => {
  const path = join(await tempFolder(), "my-app");
  expect((await run([path, ...QUICK], { cwd: "/" })).exitCode).toBe(0);
  expect(await readTree(path)).toHaveProperty("ai-stack.json");
});

test("the current folder works, with .git in it too, and needs no cd", async () => {
  const cwd = await makeFolder(await tempFolder(), "my-app");
  await mkdir(join(cwd, ".git"));
  const { exitCode, stdout } = await run([".", ...QUICK], { cwd });
  expect(exitCode).toBe(0);
  expect(stdout).not.toContain("cd ");
  expect(Object.keys(await readTree(cwd))).toHaveLength(11);
});

test("a link to an empty folder is filled", async () => {
  const cwd = await tempFolder();
  await mkdir(join(cwd, "real"));
  await symlink("real", join(cwd, "my-app"));
  expect((await run(QUICK, { cwd })).exitCode).toBe(0);
  expect(await readTree(join(cwd, "real"))).toHaveProperty("ai-stack.json");
});

test("a folder that is not empty is refused, its first entries named, and not touched", async () => {
  const cwd = await tempFolder();
  for (const name of ["a", "b", "c", "d", "e", "f", "g"])
    await writeFile(join(await makeFolder(cwd, "my-app"), name), name);
  const before = await readTree(cwd);
  const { exitCode, stderr } = await run(QUICK, { cwd });
  expect(exitCode).toBe(2);
  expect(stderr).toContain("my-app is not empty: it has a, b, c, d, e, and 2 more.");
  expect(await readTree(cwd)).toEqual(before);
});

test.each(["my-app", "my-app/nested-app"])("a file in the way of %s is refused", async (directory) => {
  const cwd = await tempFolder();
  await writeFile(join(cwd, "my-app"), "mine");
  const { exitCode, stderr } = await run([directory, ...QUICK], { cwd });
  expect(exitCode).toBe(2);
  expect(stderr).toMatch(/my-app is (?:a file|not a directory)\./);
  expect(await readTree(cwd)).toEqual({ "my-app": "mine" });
});

test("a link that leads nowhere is refused", async () => {
  const cwd = await tempFolder();
  await symlink("nowhere", join(cwd, "my-app"));
  const { exitCode, stderr } = await run(QUICK, { cwd });
  expect(exitCode).toBe(2);
  expect(stderr).toContain("leads nowhere");
});

test.each([
  ["", "Try my-app."],
  ["My App", "Try my-app."],
  ["con", "Try con-app."],
  ["nested/class", "Try nested/class-app."],
  ["numpy", "Try numpy-app."],
  ["attrs", "Try attrs-app."],
  ["/", "Try /my-app."],
])("the name %s is refused with a suggestion", async (directory, hint) => {
  const cwd = await tempFolder();
  const { exitCode, stderr } = await run([directory, ...QUICK], { cwd });
  expect(exitCode).toBe(2);
  expect(stderr).toContain(hint);
  expect(await readTree(cwd)).toEqual({});
});

test("a need that nothing fulfils is told with both sides", async () => {
  const { exitCode, stderr } = await run([...QUICK, "--store", "crate"], { cwd: await tempFolder() });
  expect(exitCode).toBe(2);
  expect(stderr).toContain('view/window needs "sql"');
  expect(stderr).toContain("Take --store shelf.");
});

test("a path that is too long is told as such", async () => {
  const { exitCode, stderr } = await run(["a".repeat(300), ...QUICK], { cwd: await tempFolder() });
  expect(exitCode).toBe(1);
  expect(stderr).toContain("the path is too long");
});

function isFolderName(name: string): boolean {
  return !/[/\0]/.test(name) && !/^\.{1,2}$/.test(name) && Buffer.byteLength(name) < 200;
}
