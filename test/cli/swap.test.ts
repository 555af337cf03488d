import { existsSync } from "node:fs";
import { chmod, cp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { parse } from "yaml";
import { readTemplates } from "../../src/read-templates.ts";
import { defaultOf } from "../matrix/combinations.ts";
import { buildCli, environment, makeFolder, readTree, run, tempFolder } from "./run.ts";

const TEMPLATES = join(import.meta.dirname, "../../templates");
const { catalogue } = await readTemplates(TEMPLATES);
const START = defaultOf(catalogue);

/** What a swap of the category adds to the project, to be run once. */
const MOVE = ["migrate_data.py", "migrate_data_parts/"];

type Choices = Record<string, string>;
type Files = Record<string, string>;

let cli: string;

beforeAll(async () => {
  cli = await buildCli(TEMPLATES);
});

afterAll(() => rm(cli, { recursive: true }));

async function git(cwd: string, ...args: string[]): Promise<string> {
  return (await execa("git", args, { cwd, env: environment(), extendEnv: false })).stdout;
}

const made = new Map<string, Promise<string>>();

/** A copy of a project of these choices, which is created once. */
async function create(tools: Choices): Promise<string> {
  const flags = Object.entries(tools).flatMap(([category, tool]) => [`--${category}`, tool]);
  const place = join(cli, flags.join(""));
  const creating = made.get(place) ?? createIn(place, flags);
  made.set(place, creating);
  const project = join(await tempFolder(), "my-app");
  await cp(await creating, project, { recursive: true });
  return project;
}

async function createIn(place: string, flags: string[]): Promise<string> {
  await makeFolder(place);
  const { exitCode, stderr } = await run(["my-app", "--yes", "--no-install", ...flags], { cwd: place, cli });
  expect(exitCode, stderr).toBe(0);
  return join(place, "my-app");
}

async function change(file: string, edit: (text: string) => string): Promise<void> {
  const text = await readFile(file, "utf8");
  expect(edit(text)).not.toBe(text);
  await writeFile(file, edit(text));
}

/** What somebody does with a project, none of it to what its tools bring. */
async function edit(project: string): Promise<void> {
  const at = (path: string) => join(project, path);
  await change(at("app/agent.py"), (text) =>
    text.replace("\nimport ", "\n# Ours: it asks the warehouse too.\nimport "),
  );
  await change(
    at("README.md"),
    (text) => `${text.replace("## Deploy", "## Team\n\nAsk Ada.\n\n## Deploy")}\n## Ours\n\nMine.\n`,
  );
  await change(at("pyproject.toml"), (text) =>
    text.replace("dependencies = [\n", 'dependencies = [\n    "aardvark>=1",\n'),
  );
  await change(at("pyproject.toml"), (text) =>
    text.replace("]\n\n[project.scripts]", '    "zebra>=1",\n]\n\n[project.scripts]'),
  );
  await change(at(".env.example"), (text) => `${text}\n# --- Ours ---\n\n# The warehouse.\n# WAREHOUSE_URL=\n`);
  await change(at("compose.yaml"), (text) =>
    text.replace(/(?=^volumes:|(?![\s\S]))/m, "\n  redis:\n    image: redis:8\n"),
  );
  await writeFile(at("app/warehouse.py"), "STOCK = 1\n");
  await rm(at("data/sample/incidents.txt"));
}

async function commit(project: string): Promise<void> {
  await git(project, "add", "--all");
  await git(project, "commit", "--quiet", "-m", "Ours");
}

function withoutMove(files: Files): Files {
  return Object.fromEntries(Object.entries(files).filter(([path]) => !MOVE.some((name) => path.startsWith(name))));
}

const pairs = catalogue.categories.flatMap(({ id, tools }) =>
  tools.flatMap((old) => tools.flatMap((fresh) => (old === fresh ? [] : [[id, old.id, fresh.id] as const]))),
);

/** Where lines have no order of their own, only their number counts. */
function comparable(files: Files) {
  const { "compose.yaml": compose = "", "pyproject.toml": pyproject = "", ...others } = files;
  return { ...others, compose: parse(compose), pyproject: pyproject.split("\n").sort() };
}

describe.each(pairs)("%s: %s → %s", (category, old, fresh) => {
  test("edits elsewhere: no conflict, and the files of the new choice with the edits; one command takes it back", async () => {
    const [project, wanted] = [await create({ [category]: old }), await create({ [category]: fresh })];
    await edit(project);
    await edit(wanted);
    await commit(project);
    const before = await readTree(project);
    const { exitCode, stdout } = await run(["swap", category, fresh, "--no-install", "--json"], { cwd: project, cli });
    const result = JSON.parse(stdout);
    expect([exitCode, result.conflicts]).toEqual([0, []]);
    expect(comparable(withoutMove(await readTree(project)))).toEqual(comparable(await readTree(wanted)));
    await execa("sh", ["-c", result.undo], { cwd: project, env: environment(), extendEnv: false });
    expect(await readTree(project)).toEqual(before);
    expect(await git(project, "status", "--porcelain")).toBe("");
  });

  test("an edit of what the old tool brings: one conflict, listed, and the user's file is kept", async () => {
    const [project, wanted] = [await create({ [category]: old }), await create({ [category]: fresh })];
    const seam = join("app", { workflow: "workflows.py" }[category] ?? `${category}.py`);
    await change(join(project, seam), (text) => `${text}\nOURS = True\n`);
    await chmod(join(project, seam), 0o755);
    await commit(project);
    const mine = await readFile(join(project, seam), "utf8");
    const { exitCode, stdout } = await run(["swap", category, fresh, "--no-install"], { cwd: project, cli });
    expect(exitCode).toBe(1);
    expect(stdout).toContain("1 in conflict:\n");
    expect(stdout).toContain(`  ${seam}: carry over what you need from ${seam}.orig`);
    expect(withoutMove(await readTree(project))).toEqual({ ...(await readTree(wanted)), [`${seam}.orig`]: mine });
    expect((await stat(join(project, `${seam}.orig`))).mode & 0o777).toBe(0o755);
  });
});

test("there and back again, the project is what it was", async () => {
  const project = await create(START);
  const before = await readTree(project);
  for (const [category, , fresh] of pairs.filter(([category, old]) => START[category] === old)) {
    for (const tool of [fresh, START[category] ?? ""]) {
      const args = ["swap", category, tool, "--no-install", "--force"];
      expect((await run(args, { cwd: join(project, "app"), cli })).exitCode).toBe(0);
    }
  }
  expect(withoutMove(await readTree(project))).toEqual(before);
  expect(existsSync(join(project, "embedded/prefect.py"))).toBe(false);
});

test("the plan is shown, and --dry-run writes nothing", async () => {
  const project = await create(START);
  const before = await readTree(project);
  const { exitCode, stdout } = await run(["swap", "observability", "opik", "--dry-run"], { cwd: project, cli });
  expect(exitCode).toBe(0);
  for (const part of [
    "my-app: observability logfire → opik\n",
    "  add       app/opik.py\n",
    "  replace   app/observability.py\n",
    "Nothing was written.",
  ]) {
    expect(stdout).toContain(part);
  }
  for (const flags of [
    ["--dry-run", "swap"],
    ["swap", "--json", "--dry-run"],
  ]) {
    const [command = "", ...others] = flags;
    expect((await run([command, ...others, "observability", "opik"], { cwd: project, cli })).exitCode).toBe(0);
  }
  expect(await readTree(project)).toEqual(before);
});

test("what .env has to follow is listed, a variable of the same name with another meaning too", async () => {
  const project = await create(START);
  const { stdout } = await run(["swap", "database", "mongodb", "--no-install", "--json"], { cwd: project, cli });
  const { environment: variables, to, nextSteps } = JSON.parse(stdout);
  expect(variables.changed.map(({ name }: { name: string }) => name)).toContain("DATABASE_URL");
  expect(to.tools).toEqual({ ...START, database: "mongodb" });
  expect(nextSteps).toContain("uv sync");
});

describe("a swap of the database", () => {
  const TEMPLATE = join(TEMPLATES, "database");
  const COMMAND = "uv run --with-requirements migrate_data_parts/requirements.txt migrate_data.py";

  async function swapTo(project: string, tool: string, ...flags: string[]) {
    await git(project, "add", "--all");
    await git(project, "commit", "--quiet", "--allow-empty", "-m", "Ours");
    const result = await run(["swap", "database", tool, "--no-install", "--json", ...flags], { cwd: project, cli });
    return JSON.parse(result.stdout);
  }

  async function moveIn(project: string): Promise<Files> {
    const kept = withoutMove(await readTree(project));
    return Object.fromEntries(Object.entries(await readTree(project)).filter(([path]) => !(path in kept)));
  }

  async function expected(old: string, fresh: string): Promise<Files> {
    const text = (path: string) => readFile(join(TEMPLATE, path), "utf8");
    return {
      "migrate_data.py": await text("migrate_data.py"),
      "migrate_data_parts/new.py": await text(`${fresh}/migrate_data.py`),
      "migrate_data_parts/old.py": await text(`${old}/migrate_data.py`),
      "migrate_data_parts/requirements.txt": expect.stringContaining(old === "postgres" ? "psycopg[" : "pymongo>="),
      "migrate_data_parts/server.py": await text(`${old}/python/embedded/${old}.py`),
    };
  }

  test("adds what moves the data, in the plan and in the next steps", async () => {
    const project = await create(START);
    const planned = await swapTo(project, "mongodb", "--dry-run");
    const added = Object.keys(await expected("postgres", "mongodb")).map((path) => ({ path, action: "add" }));
    expect(planned.changes).toEqual(expect.arrayContaining(added));
    expect(planned.nextSteps).toEqual([expect.stringMatching(/^migrate_data\.py moves your data /)]);
    expect(await moveIn(project)).toEqual({});
    const { nextSteps } = await swapTo(project, "mongodb");
    expect(nextSteps).toContain(COMMAND);
    expect(nextSteps.indexOf(COMMAND)).toBeLessThan(nextSteps.indexOf("uv run my-app dev"));
    const written = await moveIn(project);
    expect(written).toEqual(await expected("postgres", "mongodb"));
    expect(written["migrate_data.py"]).toContain(`\n    ${COMMAND}\n`);
  });

  test("back again, replaces it by what moves them back, whether it is there still or not", async () => {
    const project = await create(START);
    await swapTo(project, "mongodb");
    expect((await swapTo(project, "postgres")).conflicts).toEqual([]);
    expect(await moveIn(project)).toEqual(await expected("mongodb", "postgres"));
    await rm(join(project, "migrate_data.py"));
    await rm(join(project, "migrate_data_parts"), { recursive: true });
    expect((await swapTo(project, "mongodb")).conflicts).toEqual([]);
    expect(await moveIn(project)).toEqual(await expected("postgres", "mongodb"));
  });

  test("keeps a file of the user's that has the name of one", async () => {
    const project = await create(START);
    await writeFile(join(project, "migrate_data.py"), "MINE = True\n");
    expect((await swapTo(project, "mongodb")).conflicts).toEqual(["migrate_data.py"]);
    const mine = { "migrate_data.py.orig": "MINE = True\n" };
    expect(await moveIn(project)).toEqual({ ...(await expected("postgres", "mongodb")), ...mine });
  });

  test("of another category, adds nothing", async () => {
    const project = await create(START);
    const { exitCode, stdout } = await run(["swap", "workflow", "prefect", "--no-install"], { cwd: project, cli });
    expect([exitCode, stdout]).toEqual([0, expect.not.stringContaining("migrate_data")]);
    expect(await moveIn(project)).toEqual({});
  });
});

test("versions that an install has pinned follow", async () => {
  const project = await create(START);
  const pin = (constraints: string) => `[tool.uv]\nconstraint-dependencies = [\n${pinsIn(constraints)}]\n`;
  const pinsIn = (text: string) =>
    [...text.matchAll(/^[^#\s].*$/gm)].map(([line]) => `  ${JSON.stringify(line)},\n`).join("");
  const constraints = await readFile(join(project, "constraints.txt"), "utf8");
  await change(join(project, "pyproject.toml"), (text) => `${text}\n${pin(constraints)}`);
  await commit(project);
  expect((await run(["swap", "database", "mongodb", "--no-install"], { cwd: project, cli })).exitCode).toBe(0);
  const pyproject = await readFile(join(project, "pyproject.toml"), "utf8");
  const fresh = await readFile(join(project, "constraints.txt"), "utf8");
  expect(fresh).not.toBe(constraints);
  expect(pyproject.endsWith(`\n\n${pin(fresh)}`)).toBe(true);
});

test("a project in a folder of a larger repository, with line ends of Windows", async () => {
  const project = await create(START);
  await rm(join(project, ".git"), { recursive: true });
  const repository = await tempFolder();
  await git(repository, "init", "--quiet");
  const inside = join(repository, "services/my-app");
  await cp(project, inside, { recursive: true });
  await change(join(inside, "README.md"), (text) => `Ours.\n${text}`.replaceAll("\n", "\r\n"));
  await change(join(inside, "app/observability.py"), (text) => text.replaceAll("\n", "\r\n"));
  await git(repository, "-c", "core.autocrlf=false", "add", "--all");
  await git(repository, "commit", "--quiet", "-m", "All");
  await writeFile(join(repository, "elsewhere"), "is no hindrance");
  const result = await run(["swap", "observability", "langfuse", "--no-install", "--json"], { cwd: inside, cli });
  expect([result.exitCode, JSON.parse(result.stdout).conflicts]).toEqual([0, []]);
  for (const path of ["README.md", "app/observability.py"]) {
    const text = await readFile(join(inside, path), "utf8");
    expect(text).toContain("LANGFUSE_PUBLIC_KEY");
    expect(text.replaceAll("\r\n", "")).not.toContain("\n");
  }
  expect(await readFile(join(inside, "README.md"), "utf8")).toMatch(/^Ours\.\r\n/);
});
