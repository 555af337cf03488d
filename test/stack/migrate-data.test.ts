import { readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { environment } from "./environment.ts";
import { makeFolder, serveDatabase } from "./service.ts";
import { mypyCache } from "./stacks.ts";

const CREATE = join(inject("place"), "node_modules/.bin/create-ai-stack");
const MOVED = join(import.meta.dirname, "moved.py");
const MANY = 10_000;
const FEW = 30;

let folder: string;
let project: string;
/** DATA_DIR of MANY documents, and of FEW, of which number 3 lacks its vectors. */
let large: string;
let small: string;
/** What the swap has printed to be typed. */
let script: string[];

beforeAll(async () => {
  folder = await makeFolder("migrate ä ");
  project = join(folder, "my-app");
  [large, small] = [join(folder, "large"), join(folder, "small")];
  await succeed(CREATE, [project, "--yes"], {}, folder);
  await succeed(...moved("fill", FEW), { DATA_DIR: small });
  await succeed(...moved("cut_off", 3), { DATA_DIR: small });
  await succeed(...moved("fill", MANY), { DATA_DIR: large });
  await swapTo("mongodb");
}, 600_000);

afterAll(() => rm(folder, { recursive: true, force: true }));

type Environment = Record<string, string>;

function moved(...args: (string | number)[]): [string, string[]] {
  return ["uv", ["run", "python", MOVED, ...args.map(String)]];
}

function run(command: string, args: string[], env: Environment = {}, cwd = project) {
  const options = { cwd, env: environment({ ...mypyCache(), ...env }), extendEnv: false, reject: false } as const;
  return execa(command, args, { ...options, stdin: "ignore" });
}

async function succeed(command: string, args: string[], env: Environment = {}, cwd = project): Promise<string> {
  const { exitCode, stdout, stderr } = await run(command, args, env, cwd);
  expect(exitCode, stdout + stderr).toBe(0);
  return stdout;
}

async function swapTo(tool: string): Promise<void> {
  await succeed("git", ["add", "--all"]);
  await succeed("git", ["commit", "--quiet", "--allow-empty", "-m", "Ours"]);
  const { nextSteps, conflicts } = JSON.parse(await succeed(CREATE, ["swap", "database", tool, "--json"]));
  expect(conflicts).toEqual([]);
  const [command = ""] = nextSteps;
  expect(await readFile(join(project, "migrate_data.py"), "utf8")).toContain(`\n    ${command}\n`);
  script = command.split(" ").slice(1);
  const check = [...script.slice(0, -1), "python", "-m", "mypy", "--strict", "migrate_data.py"];
  expect(await succeed("uv", check)).toContain("Success");
}

function migrate(env: Environment) {
  return run("uv", script, env);
}

/** What is said of what cannot be moved, beside nothing else. */
async function refusal(env: Environment): Promise<string> {
  const { exitCode, stdout, stderr } = await migrate({ DATA_DIR: small, ...env });
  expect([exitCode, stdout]).toEqual([1, ""]);
  expect(stderr).not.toMatch(/Traceback|sec/);
  return stderr.trim().split("\n").at(-1) ?? "";
}

describe("what cannot be moved is told in a line", () => {
  test("another model than that of the vectors", async () => {
    expect(await refusal({ EMBEDDING_MODEL: "other" })).toBe(
      "The old database has vectors of all-MiniLM-L6-v2, and the embedding model here is other. Set" +
        " EMBEDDING_MODEL=all-MiniLM-L6-v2, or none for the built-in one. When all is moved, `reindex` can change it.",
    );
  });

  test("nowhere to read from, and addresses that lead nowhere", async () => {
    const empty = join(folder, "empty");
    expect(await refusal({ DATA_DIR: empty })).toBe(
      `There is no PostgreSQL in ${join(empty, "postgres")}. Set OLD_DATABASE_URL to the one to move from.`,
    );
    for (const wrong of ["mongodb://user:secret@host/app", "postgresql://user:sec@ret@host/app"]) {
      expect(await refusal({ OLD_DATABASE_URL: wrong })).toMatch(/^OLD_DATABASE_URL .*postgresql:/);
    }
    const closed = "postgresql://user:secret@127.0.0.1:1/app";
    expect(await refusal({ OLD_DATABASE_URL: closed })).toMatch(/^PostgreSQL, at OLD_DATABASE_URL: .*refused/);
    expect(await refusal({ DATABASE_URL: closed })).toMatch(/^DATABASE_URL is not of the form mongodb:/);
  });

  test("a database of something else, without documents, and with another schema", async () => {
    const { url, stop } = await serveDatabase(inject("project"), join(folder, "server"));
    try {
      expect(await refusal({ OLD_DATABASE_URL: url })).toMatch(/no documents of this project: no migration has run/);
      await succeed("uv", ["run", "my-app", "migrate"], { DATABASE_URL: url }, inject("project"));
      expect(await refusal({ OLD_DATABASE_URL: url })).toMatch(/^The old database has no documents/);
      const change = `import psycopg; psycopg.connect("${url}", autocommit=True).execute("UPDATE alembic_version SET version_num = '9'")`;
      await succeed("uv", ["run", "python", "-c", change], {}, inject("project"));
      expect(await refusal({ OLD_DATABASE_URL: url })).toBe(
        "The schema to move from is 9, not 0001: adapt migrate_data_parts/old.py.",
      );
    } finally {
      await stop();
    }
  });
});

test("what is another document in the new database is told, and nothing there is overwritten", async () => {
  const env = { DATA_DIR: small };
  const name = (number: number) => `notes/0000${number} é.md`;
  const first = await migrate(env);
  expect(first.exitCode, first.stderr).toBe(1);
  expect(first.stdout).toMatch(new RegExp(`^left out   ${name(3)}  it lacks vectors .*\n.*29 moved`));
  await succeed(...moved("spoil"), env);
  for (let times = 0; times < 2; times += 1) {
    const { exitCode, stdout } = await migrate(env);
    expect(exitCode).toBe(1);
    expect(stdout.split("\n").map((line) => line.split("  it ")[0])).toEqual([
      `different  ${name(0)}`,
      `different  ${name(1)}`,
      `kept       ${name(2)}  the new database has another version of it, which stays`,
      `left out   ${name(3)}`,
      expect.stringContaining("26 there already"),
    ]);
  }
  await succeed(...moved("drop", 0, 1, 2), env);
  expect((await migrate(env)).stdout).toMatch(/3 moved/);
  await succeed(...moved("save", 3), env);
  const last = await migrate(env);
  expect([last.exitCode, last.stdout]).toEqual([0, expect.stringMatching(/^kept {7}.*\n29 there already, 1 kept\n/)]);
  await succeed(...moved("cut_off", 4), env);
});

test(`${MANY} documents move, over a kill -9 in the midst, and back, and all are what they were`, async () => {
  const env = { DATA_DIR: large };
  const options = { cwd: project, env: environment(env), extendEnv: false, reject: false, stdin: "ignore" } as const;
  const running = execa("uv", script, { ...options, detached: true });
  await succeed(...moved("wait", MANY / 5), env);
  process.kill(-(running.pid ?? 0), "SIGKILL");
  expect((await running).signal).toBe("SIGKILL");
  const { exitCode, stdout, stderr } = await migrate(env);
  expect(exitCode, stderr).toBe(0);
  expect(stderr).toContain("Moving to MongoDB");
  const count = (outcome: string) =>
    Number(stdout.match(new RegExp(`([\\d,]+) ${outcome}`))?.[1]?.replace(",", "") ?? 0);
  expect([count("moved"), count("there already")].map((each) => each > 0)).toEqual([true, true]);
  expect(count("moved") + count("there already")).toBe(MANY);
  expect(await succeed(...moved("check", MANY), env)).toContain(`${MANY} are as they were`);

  await swapTo("postgres");
  await rename(join(large, "postgres"), join(large, "former"));
  expect(await succeed("uv", script, env)).toMatch(/^10,000 moved\nDelete migrate_data.py /);
  expect(await succeed(...moved("check", MANY), env)).toContain(`${MANY} are as they were`);
}, 900_000);

test("from MongoDB, the same is told", async () => {
  await rename(join(small, "postgres"), join(small, "former"));
  expect((await migrate({ DATA_DIR: small })).stdout).toMatch(/^left out .*\n29 moved, 1 left out$/);
  const wrong = { OLD_DATABASE_URL: "mongodb://user:sec@ret@host/app" };
  expect(await refusal(wrong)).toMatch(/^OLD_DATABASE_URL is not of the form mongodb:/);
  const closed = { OLD_DATABASE_URL: "mongodb://user:secret@127.0.0.1:1/app" };
  expect(await refusal(closed)).toMatch(/^MongoDB, at OLD_DATABASE_URL: 127.0.0.1:1: .*refused$/);
});
