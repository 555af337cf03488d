import { appendFile, cp, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { expect, test } from "vitest";
import { buildCli, environment, makeFolder, readTree, run, tempFolder } from "./run.ts";

const ROOT = join(import.meta.dirname, "../..");
const TEMPLATES = join(ROOT, "templates");

async function change(file: string, edit: (text: string) => string): Promise<void> {
  const text = await readFile(file, "utf8");
  expect(edit(text), file).not.toBe(text);
  await writeFile(file, edit(text));
}

/** The templates as an earlier version could have had them. */
async function makeFormer(folder: string): Promise<string> {
  const former = join(folder, "former");
  await cp(TEMPLATES, former, { recursive: true });
  const python = join(former, "base/python");
  await change(join(python, "app/agent.py"), (text) => text.replace(/^import .*\n/m, "import this_was_needed_once\n"));
  await change(join(python, "README.md.hbs"), (text) => text.replace("## Start", "## Begin"));
  await change(join(python, "app/settings.py"), (text) => `${text}# The end.\n`);
  await rm(join(python, "app/access.py"));
  await writeFile(join(python, "app/former.py"), "GONE = True\n");
  await writeFile(join(python, "app/former_edited.py"), "GONE = True\n");
  const observability = join(former, "observability/langfuse");
  await change(join(observability, "python/app/observability.py"), (text) =>
    text.replaceAll("\n\n\n", "\n\n\n# Before.\n"),
  );
  await change(join(observability, "constraints.txt"), (text) => text.replace(/^langfuse==.*$/m, "langfuse==4.0.0"));
  return former;
}

async function git(cwd: string, ...args: string[]): Promise<void> {
  await execa("git", args, { cwd, env: environment(), extendEnv: false });
}

test("a project of an earlier version becomes one of this version, by update and by swap, and keeps the user's work", async () => {
  const folder = await tempFolder();
  const former = await makeFormer(folder);
  const archive = join(folder, "archive");
  await execa("node", [join(ROOT, "scripts/archive.js"), "0.0.9", former, "--archive", archive]);
  const [old, fresh] = [await buildCli(former), await buildCli(TEMPLATES, "--archive", archive)];
  const tools = ["--observability", "langfuse"];
  const create = async (cli: string, ...more: string[]) => {
    const cwd = await makeFolder(await tempFolder(), "place");
    await run(["my-app", "--yes", "--no-install", ...tools, ...more], { cwd, cli });
    return join(cwd, "my-app");
  };
  const [project, wanted] = [await create(old), await create(fresh)];
  for (const name of ["ai-stack.json", "README.md"]) {
    await change(join(project, name), (text) => text.replace("0.1.0", "0.0.9"));
  }
  // What the user does, here and in what shall come of it.
  const edits = async (place: string) => {
    await appendFile(join(place, "app/agent.py"), "\n\nOURS = 1\n");
    await change(join(place, "README.md"), (text) => text.replace("## Deploy", "## Ours\n\n## Deploy"));
    await change(join(place, "app/observability.py"), (text) => `${text}\n\nOURS = 2\n`);
    await writeFile(join(place, "app/ours.py"), "");
    await rm(join(place, "data/sample/billing.md"));
  };
  await edits(project);
  await edits(wanted);
  await git(project, "add", "--all");
  await git(project, "commit", "--quiet", "-m", "Ours");
  const before = await readTree(project);
  const updated = await run(["update", "--no-install", "--json"], { cwd: project, cli: fresh });
  const result = JSON.parse(updated.stdout);
  expect([updated.exitCode, result.conflicts]).toEqual([0, []]);
  expect([result.from.version, result.to.version]).toEqual(["0.0.9", "0.1.0"]);
  expect(await readTree(project)).toEqual(await readTree(wanted));

  await execa("sh", ["-c", result.undo], { cwd: project, env: environment(), extendEnv: false });
  expect(await readTree(project)).toEqual(before);
  // Where both have changed one line, and where a file has gone.
  await change(join(project, "README.md"), (text) => text.replace("## Begin", "## Go"));
  await appendFile(join(project, "app/former_edited.py"), "OURS = 3\n");
  await git(project, "commit", "--quiet", "--all", "-m", "More");
  const { exitCode, stdout } = await run(["update", "--no-install"], { cwd: project, cli: fresh });
  expect(exitCode).toBe(1);
  expect(stdout).toContain("my-app: version 0.0.9 → 0.1.0\n");
  expect(stdout).toContain("2 in conflict:\n  README.md: choose between the lines");
  expect(stdout).toContain("  app/former_edited.py: carry over what you need from app/former_edited.py.orig");
  const files = await readTree(project);
  expect(files["README.md"]).toContain("<<<<<<< yours\n## Go\n=======\n## Start\n>>>>>>> 0.1.0\n");
  expect(files["app/former_edited.py.orig"]).toBe("GONE = True\nOURS = 3\n");
  expect(Object.keys(files)).not.toContain("app/former.py");
  expect(JSON.parse(files["ai-stack.json"] ?? "").version).toBe("0.1.0");

  const again = await create(old);
  for (const name of ["ai-stack.json", "README.md"]) {
    await change(join(again, name), (text) => text.replace("0.1.0", "0.0.9"));
  }
  await git(again, "commit", "--quiet", "--all", "-m", "As it was");
  const swapped = await run(["swap", "database", "mongodb", "--no-install"], { cwd: again, cli: fresh });
  expect(swapped.exitCode).toBe(0);
  expect(swapped.stdout).toContain("my-app: database postgres → mongodb, version 0.0.9 → 0.1.0\n");
  const found = Object.entries(await readTree(again)).filter(([path]) => !path.startsWith("migrate_data"));
  expect(Object.fromEntries(found)).toEqual(await readTree(await create(fresh, "--database", "mongodb")));
  await Promise.all([old, fresh].map((cli) => rm(cli, { recursive: true })));
});
