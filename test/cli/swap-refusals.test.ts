import { chmod, lstat, mkdir, readdir, readFile, rename, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { entry, environment, makePath, readTree, run as runIn, tempFolder } from "./run.ts";
import { buildSwappable, createProject } from "./swappable.ts";

const SWAP = ["swap", "store", "crate", "--no-install"];
let project: string;

let cli: string;

beforeAll(async () => {
  cli = await buildSwappable();
});

afterAll(() => rm(cli, { recursive: true }));

beforeEach(async () => {
  project = await createProject(cli);
});

function run(args: string[], env: Record<string, string> = {}) {
  return runIn(args, { cwd: project, cli, env });
}

function at(path: string): string {
  return join(project, path);
}

async function git(...args: string[]) {
  const options = { cwd: project, env: environment(), extendEnv: false, reject: false } as const;
  return execa("git", args, options);
}

async function commitAll(): Promise<void> {
  await git("add", "--all");
  expect((await git("commit", "--quiet", "--allow-empty", "-m", "Ours")).exitCode).toBe(0);
}

/** Runs a command that is refused, as a person and as a program would; nothing may have been written. */
async function refuse(args: string[], env: Record<string, string> = {}) {
  const before = [await readTree(project), (await git("status", "--porcelain")).stdout];
  const plain = await run(args, env);
  expect(plain.stderr).toMatch(/^✖ /);
  expect(plain.stderr).not.toContain("A bug");
  const { exitCode, stdout } = await run([...args, "--json"], env);
  expect(exitCode).toBe(plain.exitCode);
  expect([1, 2]).toContain(exitCode);
  expect([await readTree(project), (await git("status", "--porcelain")).stdout]).toEqual(before);
  const { ok, error } = JSON.parse(stdout);
  expect(ok).toBe(false);
  return error as { code: string; message: string; hint: string };
}

async function replace(path: string, make: (path: string) => Promise<unknown>): Promise<void> {
  await rm(at(path), { recursive: true });
  await make(at(path));
}

/** Moves something out of the project, and puts a link to it in its place. */
async function link(path: string): Promise<{ content: string }> {
  const elsewhere = join(await tempFolder(), "elsewhere");
  await rename(at(path), elsewhere);
  await symlink(elsewhere, at(path));
  const isFile = (await lstat(elsewhere)).isFile();
  return { content: isFile ? await readFile(elsewhere, "utf8") : "" };
}

const CHOICES = { generator: "create-ai-stack", version: "0.1.0", name: "my-app" };
const TOOLS = { store: "shelf", view: "window" };

describe("ai-stack.json", () => {
  test.each<[string, string, string]>([
    ["truncated", '{"generator": "create-', "it is no JSON: "],
    ["empty", "", "it is no JSON: "],
    ["no mapping", "[]", "it must hold a mapping"],
    [
      "of something else",
      JSON.stringify({ ...CHOICES, generator: "x" }),
      '"generator" must be "create-ai-stack", and is "x"',
    ],
    ["without a version", JSON.stringify({ ...CHOICES, version: undefined }), "such as 0.1.0, and is missing"],
    ["with a number as its version", JSON.stringify({ ...CHOICES, version: 1 }), "such as 0.1.0, and is 1"],
    ["with a wrong version", JSON.stringify({ ...CHOICES, version: "latest" }), 'and is "latest"'],
    ["of a version that never was", JSON.stringify({ ...CHOICES, version: "0.0.1", tools: TOOLS }), "no version 0.0.1"],
    ["with a wrong name", JSON.stringify({ ...CHOICES, name: "../x" }), 'Python distribution, and is "../x"'],
    ["without tools", JSON.stringify(CHOICES), '"tools" must be a mapping of categories to tools, and is missing'],
    ["with a list of tools", JSON.stringify({ ...CHOICES, tools: [] }), "and is []"],
    [
      "with a number as a tool",
      JSON.stringify({ ...CHOICES, tools: { store: 1 } }),
      'the tool of "store" must be a text, and is 1',
    ],
    [
      "without a category",
      JSON.stringify({ ...CHOICES, tools: { store: "shelf" } }),
      '"tools" lacks "view", which is one of window',
    ],
    [
      "with an unknown tool",
      JSON.stringify({ ...CHOICES, tools: { ...TOOLS, store: "box" } }),
      'must be one of shelf, chest, crate, and is "box"',
    ],
    [
      "with an unknown category",
      JSON.stringify({ ...CHOICES, tools: { ...TOOLS, door: "x" } }),
      'there is no category "door"',
    ],
  ])("%s", async (_, content, problem) => {
    await writeFile(at("ai-stack.json"), content);
    await commitAll();
    for (const args of [SWAP, ["update"]]) {
      const { code, message, hint } = await refuse(args);
      expect([code, message.includes(`${project}/ai-stack.json is damaged`)]).toEqual(["choices", true]);
      expect(message).toContain(problem);
      expect(hint).toContain("git restore ai-stack.json");
    }
  });

  test.each(["0.1.1", "0.10.0", "1.0.0", "10.0.0-beta.1"])("of the newer version %s", async (version) => {
    await writeFile(at("ai-stack.json"), JSON.stringify({ ...CHOICES, version, tools: TOOLS }));
    await commitAll();
    const { code, hint } = await refuse(SWAP);
    expect([code, hint]).toEqual([
      "newer-version",
      `Use that version, or a newer one: npx create-ai-stack@${version} swap store crate`,
    ]);
  });

  test("other choices than the files are of", async () => {
    await writeFile(at("ai-stack.json"), JSON.stringify({ ...CHOICES, tools: { ...TOOLS, store: "crate" } }));
    await commitAll();
    expect(await refuse(["swap", "store", "chest", "--no-install"])).toMatchObject({
      message: "ai-stack.json says that the store is crate, but app/store.py is that of shelf.",
      hint: "If it is shelf, write that into ai-stack.json, and run the command again. Nothing was changed.",
    });
  });

  test("a link, and a folder", async () => {
    await rename(at("ai-stack.json"), at("choices.json"));
    await symlink("choices.json", at("ai-stack.json"));
    await commitAll();
    expect((await refuse(SWAP)).message).toContain("it is no regular file");
    await rm(at("ai-stack.json"));
    await mkdir(at("ai-stack.json"));
    expect((await refuse(SWAP)).message).toContain("it is no regular file");
  });

  test("none, here or above", async () => {
    await rm(at("ai-stack.json"));
    await commitAll();
    expect((await refuse(SWAP)).code).toBe("no-project");
  });

  test("what else the user keeps in it stays, and an editor's byte order mark is no harm", async () => {
    const choices = { ...JSON.parse(await readFile(at("ai-stack.json"), "utf8")), team: "ours" };
    await writeFile(at("ai-stack.json"), `\uFEFF${JSON.stringify(choices)}`);
    await commitAll();
    expect((await run(SWAP)).exitCode).toBe(0);
    const wanted = { ...choices, tools: { ...TOOLS, store: "crate" } };
    expect(JSON.parse(await readFile(at("ai-stack.json"), "utf8"))).toEqual(wanted);
  });
});

test.each([
  ["an unknown category", ["swap", "door", "x"], "unknown-category", "Take one of: store, view."],
  ["an unknown tool", ["swap", "store", "box"], "unknown-tool", "Take one of: shelf, chest, crate."],
  ["no tool", ["swap", "store"], "missing-argument", "See create-ai-stack --help."],
])("%s", async (_, args, code, hint) => {
  expect(await refuse(args)).toMatchObject({ code, hint });
});

test.each([
  ["swap", ["swap", "store", "shelf"], "my-app has shelf as its store already. Nothing was written."],
  ["update", ["update"], "my-app is of version 0.1.0 already. Nothing was written."],
])("%s to what is there: nothing to do, which is no failure", async (_, args, text) => {
  await writeFile(at("README.md"), "not committed");
  expect(await run(args)).toMatchObject({ exitCode: 0, stdout: text });
  expect(JSON.parse((await run([...args, "--json"])).stdout)).toMatchObject({
    ok: true,
    changes: [],
  });
});

describe("git", () => {
  test("what is not committed, or ignored, is named; --force goes on", async () => {
    await git("config", "status.showUntrackedFiles", "no");
    await writeFile(at("mine.py"), "");
    expect(await refuse(SWAP)).toMatchObject({
      code: "git",
      message: "There would be no way back by one command: not all is committed: mine.py.",
      hint: expect.stringContaining("--force"),
    });
    await writeFile(at(".gitignore"), ".env.example\n");
    await rm(at("mine.py"));
    await git("rm", "--cached", ".env.example");
    await commitAll();
    expect((await refuse(SWAP)).message).toContain("git ignores .env.example");
    const { exitCode, stdout } = await run([...SWAP, "--force"]);
    expect([exitCode, stdout]).toEqual([0, expect.stringContaining("There is no command to take it back")]);
  });

  test("with --force, what was not committed is merged like all else", async () => {
    await writeFile(at("app/store.py"), 'KIND = "mine"\n');
    const { exitCode, stdout } = await run([...SWAP, "--force", "--json"]);
    expect([exitCode, JSON.parse(stdout).conflicts, JSON.parse(stdout).undo]).toEqual([1, ["app/store.py"], null]);
    expect(await readTree(project)).toMatchObject({
      "app/store.py.orig": 'KIND = "mine"\n',
      "app/store.py": 'KIND = "crate"\n',
    });
  });

  test("a kept file takes no other's place", async () => {
    await writeFile(at("app/store.py"), "mine");
    await writeFile(at("app/store.py.orig"), "older");
    await commitAll();
    const { stdout } = await run([...SWAP, "--json"]);
    expect(JSON.parse(stdout).changes).toContainEqual(
      expect.objectContaining({ path: "app/store.py", action: "conflict", kept: "app/store.py.orig.1" }),
    );
    expect(await readTree(project)).toMatchObject({ "app/store.py.orig": "older", "app/store.py.orig.1": "mine" });
  });

  test("none, no repository, and one that is broken", async () => {
    const PATH = await makePath({ sh: true });
    expect((await refuse(SWAP, { PATH })).message).toContain("git is not installed");
    await writeFile(at(".git/config"), "[broken\n");
    expect((await refuse(SWAP)).message).toMatch(/bad config line/);
    await rm(at(".git"), { recursive: true });
    expect(await refuse(SWAP)).toMatchObject({
      message: expect.stringContaining("lies in no repository"),
      hint: expect.stringContaining("git init"),
    });
    expect((await run([...SWAP, "--force"], { PATH })).exitCode).toBe(0);
  });

  test("a detached head", async () => {
    await git("checkout", "--quiet", "--detach");
    expect(await refuse(SWAP)).toMatchObject({
      message: expect.stringContaining("HEAD is detached"),
      hint: expect.stringContaining("git switch -c swap"),
    });
    expect((await run([...SWAP, "--force"])).exitCode).toBe(0);
  });

  test.each(["merge", "rebase", "cherry-pick", "revert"])(
    "a %s under way, which --force does not help",
    async (what) => {
      await writeFile(at("README.md"), "one\n");
      await commitAll();
      await git("switch", "--quiet", "-c", "other", "HEAD~1");
      await writeFile(at("README.md"), "two\n");
      await commitAll();
      expect((await git(what, "main")).exitCode).not.toBe(0);
      for (const args of [SWAP, [...SWAP, "--force"]]) {
        const { code, message, hint } = await refuse(args);
        expect([code, message, hint]).toEqual([
          "git",
          `A ${what} is under way: its changes and these could not be told apart.`,
          `Finish it (git ${what} --continue) or give it up (git ${what} --abort).`,
        ]);
      }
    },
  );

  test("a submodule in the way, checked out or not", async () => {
    const other = await tempFolder();
    await execa("git", ["init", "--quiet", other]);
    await execa("git", ["-C", other, "commit", "--quiet", "--allow-empty", "-m", "x"], {
      env: environment(),
      extendEnv: false,
    });
    await git("rm", "-r", "--quiet", "app");
    await git("-c", "protocol.file.allow=always", "submodule", "add", "--quiet", other, "app");
    await commitAll();
    expect((await refuse(SWAP)).message).toBe("app is a repository of its own, such as a submodule.");
    await git("submodule", "deinit", "--force", "app");
    expect(await readdir(at("app"))).toEqual([]);
    const { message } = await refuse(["swap", "store", "chest", "--no-install"]);
    expect(message).toBe("app/lid.py lies in a submodule, which is a repository of its own.");
  });
});

describe("what stands in the way", () => {
  test.each<[string, () => Promise<unknown>, string]>([
    ["a link to a file elsewhere", () => link("app/store.py"), "app/store.py is a symbolic link"],
    [
      "a link that leads nowhere",
      () => replace("compose.yaml", (path) => symlink("nowhere", path)),
      "compose.yaml is a symbolic link",
    ],
    ["a link to a folder elsewhere", () => link("app"), "app is a symbolic link"],
    ["a folder in the place of a file", () => replace("README.md", (path) => mkdir(path)), "README.md is a folder"],
    [
      "a file in the place of a folder",
      () => replace("app", (path) => writeFile(path, "")),
      "app is a file, and a folder",
    ],
    ["a read-only file", () => chmod(at("app/store.py"), 0o444), "app/store.py is read-only"],
  ])("%s", async (_, prepare, message) => {
    await prepare();
    await commitAll();
    for (const args of [SWAP, [...SWAP, "--force"]]) {
      const error = await refuse(args);
      expect([error.code, error.hint]).toEqual(["path", expect.stringContaining("Nothing was changed.")]);
      expect(error.message).toContain(message);
    }
  });

  test("a read-only folder", async () => {
    await chmod(at("app"), 0o555);
    await chmod(cli, 0o755);
    // Root may write anywhere.
    const user = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    const asUser = process.getuid?.() === 0 ? user : [];
    const [command = "", ...args] = [...asUser, process.execPath, entry(cli), ...SWAP, "--force"];
    await chmod(join(project, ".."), 0o777);
    await chmod(project, 0o777);
    for (const path of [
      "ai-stack.json",
      "README.md",
      "compose.yaml",
      "constraints.txt",
      "pyproject.toml",
      ".env.example",
      "app/store.py",
    ])
      await chmod(at(path), 0o666);
    const before = await readTree(project);
    const { exitCode, stderr } = await execa(command, args, {
      cwd: project,
      env: environment(),
      extendEnv: false,
      reject: false,
    });
    expect([exitCode, stderr]).toEqual([2, expect.stringContaining("app is read-only.")]);
    expect(await readTree(project)).toEqual(before);
    await chmod(at("app"), 0o755);
  });

  test("a link on a path that stays as it is is left alone, and so is what it leads to", async () => {
    const { content } = await link("app/__init__.py");
    await commitAll();
    expect((await run(SWAP)).exitCode).toBe(0);
    expect((await lstat(at("app/__init__.py"))).isSymbolicLink()).toBe(true);
    expect(await readFile(at("app/__init__.py"), "utf8")).toBe(content);
  });
});

describe("the install", () => {
  const swap = SWAP.slice(0, 3);

  test("comes after the change, and its lock file is taken back with it", async () => {
    const PATH = await makePath({ sh: true, git: true, uv: "echo locked > uv.lock" });
    const before = await readTree(project);
    const { exitCode, stdout } = await run([...swap, "--json"], { PATH });
    expect([exitCode, JSON.parse(stdout).nextSteps]).toEqual([0, ["uv run my-app dev"]]);
    expect(await readTree(project)).toHaveProperty(["uv.lock"], "locked\n");
    await execa("sh", ["-c", JSON.parse(stdout).undo], { cwd: project, env: environment(), extendEnv: false });
    expect(await readTree(project)).toEqual(before);
  });

  test("that fails leaves the change, says why, and exits with 1", async () => {
    const PATH = await makePath({ sh: true, git: true, uv: "echo no such release >&2; exit 1" });
    const { exitCode, stdout } = await run([...swap, "--json"], { PATH });
    const { ok, error, conflicts, notes } = JSON.parse(stdout);
    expect([exitCode, ok, error.code, conflicts]).toEqual([1, false, "install", []]);
    expect(notes.join()).toContain("no such release");
    expect(await readTree(project)).toHaveProperty(["app/store.py"], 'KIND = "crate"\n');
  });

  test("is left out where pyproject.toml is in conflict", async () => {
    await writeFile(
      at("pyproject.toml"),
      (await readFile(at("pyproject.toml"), "utf8")).replace('"attrs>=25"', '"attrs>=24"'),
    );
    await commitAll();
    const PATH = await makePath({ sh: true, git: true, uv: "touch installed" });
    const { exitCode, stdout } = await run(swap, { PATH });
    expect([exitCode, stdout]).toEqual([
      1,
      expect.stringContaining("Nothing was installed: pyproject.toml is in conflict."),
    ]);
    const files = await readTree(project);
    expect(files).not.toHaveProperty(["installed"]);
    expect(files["pyproject.toml"]).toMatch(/<<<<<<< yours\n.*"attrs>=24",\n=======\n>>>>>>> crate\n/);
  });
});
