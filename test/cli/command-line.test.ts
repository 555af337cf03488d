import { execa } from "execa";
import fc from "fast-check";
import { expect, test } from "vitest";
import { entry, environment, run, tempFolder } from "./run.ts";

test("--help shows a flag a category with its tools, and the commands", async () => {
  const { exitCode, stdout } = await run(["--help"], { cwd: await tempFolder() });
  expect(exitCode).toBe(0);
  expect(stdout.replace(/\s+/g, " ")).toContain(
    '--store <tool> Where shall the data go? Default: shelf. (choices: "shelf", "crate")',
  );
  expect(stdout).toMatch(/--view <tool>[\s\S]*list \[options\]/);
});

test("list shows each tool with when to choose it and when not", async () => {
  const { stdout } = await run(["list"], { cwd: await tempFolder() });
  expect(stdout).toContain(
    '  shelf (default)  Shelf, https://shelf.example\n    Choose it  You like order & "quotes".\n    Not        You have no wall.\n',
  );
  expect(stdout).toContain("    Emulated   A box answers for it; stacking was not tried.\n");
  expect(stdout).not.toContain("\u001b");
});

test("list --json is the catalogue", async () => {
  const { stdout } = await run(["list", "--json"], { cwd: await tempFolder() });
  const { ok, categories } = JSON.parse(stdout);
  expect(ok).toBe(true);
  expect(categories[0]).toEqual({
    id: "store",
    question: "Where shall the data go?",
    about: "Keeps what the application must not lose.",
    default: "shelf",
    tools: [
      {
        id: "shelf",
        title: "Shelf",
        choose: 'You like order & "quotes".',
        avoid: "You have no wall.",
        homepage: "https://shelf.example",
      },
      {
        id: "crate",
        title: "Crate",
        choose: "You move often.",
        avoid: "You look for things.",
        homepage: "https://crate.example",
        emulated: "A box answers for it; stacking was not tried.",
      },
    ],
  });
});

test("without a terminal each missing flag is named with its values", async () => {
  const { exitCode, stderr, stdout } = await run(["--store", "shelf"], { cwd: await tempFolder() });
  expect([exitCode, stdout]).toEqual([2, ""]);
  expect(stderr).toContain("Missing: [directory]; --view (window).");
  expect(stderr).toContain("--yes");
});

test("CI counts as no terminal, and --yes is enough", async () => {
  const cwd = await tempFolder();
  const { exitCode } = await run(["--yes", "--dry-run"], { cwd, env: { CI: "1" } });
  expect(exitCode).toBe(0);
});

test.each([
  ["an unknown flag", ["--nope"], "unknown-option"],
  ["an unknown tool", ["--store", "barrel"], "unknown-tool"],
  ["a flag without its value", ["--store"], "option-missing-argument"],
  ["a flag as a value", ["--store", "--yes"], "unknown-tool"],
  ["a second directory", ["a-b", "c-d"], "excess-arguments"],
  ["a directory whose name is refused", ["My App", "--yes"], "name"],
  ["missing flags", ["a-b"], "missing-flags"],
])("%s exits 2; with --json, as one document", async (_, args, code) => {
  const cwd = await tempFolder();
  const plain = await run(args, { cwd });
  expect([plain.exitCode, plain.stdout]).toEqual([2, ""]);
  expect(plain.stderr).toMatch(/^✖ .+\n?$/);
  const { exitCode, stdout } = await run(["--json", ...args], { cwd });
  expect(exitCode).toBe(2);
  expect(JSON.parse(stdout)).toMatchObject({
    ok: false,
    error: { code, message: expect.any(String), hint: expect.any(String) },
  });
});

test.each(["--help", "--version"])("%s --json is one document", async (flag) => {
  const { exitCode, stdout } = await run([flag, "--json"], { cwd: await tempFolder() });
  expect(exitCode).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ ok: true, text: expect.any(String) });
});

test("help for a command that there is not is a mistake, and one document with --json", async () => {
  const { exitCode, stdout } = await run(["--json", "help", "nope"], { cwd: await tempFolder() });
  expect(exitCode).toBe(2);
  expect(JSON.parse(stdout)).toMatchObject({ ok: false, error: { code: "usage" } });
});

test("whatever the arguments, --json gives one document, and no stack", async () => {
  const cwd = await tempFolder();
  const flags = fc.constantFrom(
    "--yes",
    "--store",
    "--view",
    "--no-git",
    "--verbose",
    "list",
    "--nope",
    "-x",
    "--",
    "-y",
  );
  const values = fc.oneof(flags, fc.constantFrom("shelf", "crate", "window", "a-b", ".", "", "con"), fc.string());
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        values.filter((value) => !value.includes("\0")),
        { maxLength: 6 },
      ),
      async (args) => {
        const { exitCode, stdout, stderr } = await run(["--json", "--dry-run", ...args], { cwd });
        expect(JSON.parse(stdout).ok).toBe(exitCode === 0);
        expect([0, 2]).toContain(exitCode);
        expect(stderr).not.toContain("A bug");
      },
    ),
    { numRuns: 25 },
  );
});

test("colours: none without a terminal, none with NO_COLOR, some with FORCE_COLOR", async () => {
  const cwd = await tempFolder();
  expect((await run(["list"], { cwd, env: { CI: "1" } })).stdout).not.toContain("\u001b");
  expect((await run(["list"], { cwd, env: { NO_COLOR: "1", FORCE_COLOR: "1" } })).stdout).not.toContain("\u001b");
  expect((await run(["list"], { cwd, env: { FORCE_COLOR: "1" } })).stdout).toContain("\u001b");
});

test("a reader that closes the pipe is no failure", async () => {
  const command = `"${process.execPath}" "${entry()}" list; echo "exit $?" >&2`;
  const { stderr } = await execa("sh", ["-c", `(${command}) | true`], { env: environment(), extendEnv: false });
  expect(stderr.trim()).toBe("exit 0");
});
