import { existsSync } from "node:fs";
import { appendFile, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { holdings } from "../../src/verify/holdings.ts";
import { PHASES, type Verdict } from "../../src/verify/verify.ts";
import { Program } from "./program.ts";
import { makeFolder } from "./service.ts";
import { mypyCache } from "./stacks.ts";

const CREATE = join(inject("place"), "node_modules/.bin/create-ai-stack");
let folder: string;
let project: string;

beforeAll(async () => {
  folder = await makeFolder("verify-");
  project = join(folder, "my-app");
});

afterAll(() => rm(folder, { recursive: true, force: true }));

/** Somebody has set up this shell for the real thing. */
const REAL = {
  DATABASE_URL: "postgresql://nobody@127.0.0.1:1/none",
  LLM_MODEL: "gpt-5",
  LLM_BASE_URL: "http://127.0.0.1:1",
};

function start(cwd: string, ...args: string[]): Program {
  const env = { TMPDIR: folder, ...REAL, ...mypyCache() };
  return new Program({ project: cwd, data: join(folder, "unused"), command: [CREATE, ...args], env });
}

/** Its exit code, and the one document on stdout: all else is on stderr. */
async function run(cwd: string, ...args: string[]) {
  const program = start(cwd, ...args, "--json");
  const exitCode = await program.ended;
  const [json = ""] = program.output.match(/^\{$.*^\}$/ms) ?? [];
  return { exitCode, output: program.output, found: JSON.parse(json) };
}

async function working(): Promise<string[]> {
  return [...(await holdings(undefined, [folder])).processes.values()];
}

const results = ({ phases }: Verdict) => phases.map(({ phase, result }) => `${phase} ${result}`);
const leftovers = async () =>
  (await readdir(folder)).filter((name) => /^create-ai-stack-verify-.*(?<!\.log)$/.test(name));

test("create --verify makes a project and proves it, whatever settings the shell has", async () => {
  const { exitCode, output, found } = await run(folder, "my-app", "--yes", "--verify", "--api", "fastmcp");
  expect(exitCode, output).toBe(0);
  expect(found).toMatchObject({ ok: true, name: "my-app", directory: project, verification: { passed: true } });
  expect(results(found.verification)).toEqual(PHASES.map((phase) => `${phase} passed`));
  expect(await working()).toEqual([]);
  expect(await leftovers()).toEqual([]);
});

describe("verify, in a project", () => {
  test("takes no setting of .env, and touches no data", async () => {
    await writeFile(join(project, ".env"), "DATABASE_URL=postgresql://nobody@127.0.0.1:1/none\nPORT=none\n");
    const { exitCode, output, found } = await run(join(project, "app"), "verify", "--phases", "start,ask,stop");
    expect(exitCode, output).toBe(0);
    expect(found).toMatchObject({ directory: project, name: "my-app", passed: true });
    expect(results(found)).toEqual(["start passed", "ask passed", "stop passed"]);
    expect(existsSync(join(project, ".data"))).toBe(false);
    expect(await working()).toEqual([]);
  });

  test("Ctrl-C leaves nothing running, and no folder", async () => {
    const verifying = start(project, "verify", "--phases", "start,ask,kill");
    await verifying.until("started", 120, async () => verifying.output.includes("✔ start"));
    verifying.signalGroup("SIGINT");
    expect(await verifying.ended, verifying.output).toBe(130);
    expect(verifying.output).toContain(`Cancelled. Nothing of ${project} is left running.`);
    expect(await working()).toEqual([]);
    expect(await leftovers()).toEqual([]);
  });

  test("says what failed and what was left out, with exit code 1 and a log of it all", async () => {
    await appendFile(
      join(project, "app/agent.py"),
      "\nasync def answer(*_: object) -> None:\n    raise ValueError('broken')\n",
    );
    const { exitCode, output, found } = await run(project, "verify", "--phases", "lint,start,ask,stop");
    expect(exitCode, output).toBe(1);
    expect(results(found)).toEqual(["lint failed", "start passed", "ask failed", "stop left out"]);
    expect(found.passed).toBe(false);
    expect(found.phases[0].output).toContain("F811");
    expect(found.phases[2].output).toContain("ValueError: broken");
    expect(await readFile(found.log, "utf8")).toMatch(/^\$ \S*uv run my-app ask When is the foghorn tested\?$/m);
    expect(await working()).toEqual([]);
    expect(await leftovers()).toEqual([]);
  });
});
