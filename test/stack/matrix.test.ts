import { existsSync } from "node:fs";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { readTemplates } from "../../src/read-templates.ts";
import { holdings } from "../../src/verify/holdings.ts";
import type { Report } from "../../src/verify/verify.ts";
import { nameOf, pairwiseOf } from "../matrix/combinations.ts";
import { defaultJobs, PHASES, prove, sideBySide } from "../matrix/prove.ts";
import { Program } from "./program.ts";
import { makeFolder } from "./service.ts";

const ROOT = join(import.meta.dirname, "../..");
let folder: string;

beforeAll(async () => {
  folder = await makeFolder("matrix-");
});

afterAll(() => rm(folder, { recursive: true, force: true }));

// Each tool's own tests run elsewhere: with the default stack, by verify, and after swaps. The matrix runs them all.
const SIDE_BY_SIDE = PHASES.filter((phase) => phase !== "tests" && phase !== "win32");

describe("any two tools work side by side", async () => {
  const { catalogue } = await readTemplates(join(ROOT, "templates"));
  const combinations = pairwiseOf(catalogue);
  const reports = new Map<string, Report>();

  beforeAll(async () => {
    const cli = [join(inject("place"), "node_modules/.bin/create-ai-stack")];
    const { signal } = new AbortController();
    // One more than there are cores: each waits for a good part of its time.
    await sideBySide(combinations, defaultJobs() + 1, async (combination, job) => {
      const cache = join(inject("place"), job === 0 ? "mypy" : `mypy-${job}`); // the first: what other tests have found out
      const place = join(folder, nameOf(combination));
      reports.set(nameOf(combination), await prove({ combination, cli, place, cache, signal, phases: SIDE_BY_SIDE }));
      await rm(place, { recursive: true, force: true });
    });
  }, 1_800_000);

  test.each(combinations.map(nameOf))("%s", (name) => {
    const { outcomes = [], transcript } = reports.get(name) ?? {};
    expect(outcomes.length).toBeGreaterThan(0);
    expect(
      outcomes.filter(({ result }) => result !== "passed"),
      transcript,
    ).toEqual([]);
  });
});

describe("npm run test:matrix", () => {
  const [first, second] = ["postgres-fastapi-dbos-logfire", "postgres-fastmcp-dbos-logfire"];

  function matrix(env: Record<string, string> = {}, ...more: string[]): Program {
    const options = ["--folder", folder, "--only", "postgres,dbos,logfire", "--phases", "install,start,stop"];
    const command = [process.execPath, "scripts/matrix.js", ...options, "--jobs", "1", ...more];
    return new Program({ project: ROOT, data: join(folder, "data"), command, env });
  }

  async function working(): Promise<string[]> {
    return [...(await holdings(undefined, [join(folder, "work")])).processes.values()];
  }

  test("goes on after it was killed, and after Ctrl-C, which leaves nothing running", async () => {
    const killed = matrix();
    await killed.until("the first is started", 180, async () => killed.output.includes(`${first}: start passed`));
    killed.signal("SIGKILL");
    await killed.ended;
    expect(await working()).not.toEqual([]);

    const interrupted = matrix();
    await interrupted.until("the second is started", 180, async () => interrupted.output.includes(`${second}: start`));
    expect(interrupted.output).toContain(`${first}: stop passed`);
    interrupted.signalGroup("SIGINT");
    expect(await interrupted.ended, interrupted.output).toBe(130);
    expect(await working()).toEqual([]);

    const whole = matrix();
    expect(await whole.ended, whole.output).toBe(0);
    expect(whole.output).toContain(`${first}: passed earlier`);
    expect(whole.output).toContain(`${second}: stop passed`);
    expect(whole.output).toMatch(new RegExp(`^${first} +passed earlier +[\\d.]+ `, "m"));
    expect(whole.output).toMatch(new RegExp(`^${second} +passed +[\\d.]+ `, "m"));
    expect(await working()).toEqual([]);
  });

  test("tells of what failed where its log is, and tries it again", async () => {
    const programs = await makeFolder("programs-");
    await writeFile(join(programs, "uv"), "#!/bin/sh\necho it rains\nexit 1\n", { mode: 0o755 });
    const path = { PATH: `${programs}:${process.env["PATH"]}` };
    const failing = matrix(path, "--fresh", "--phases", "install");
    expect(await failing.ended, failing.output).toBe(1);
    const [, log = ""] = failing.output.match(new RegExp(`^${first} failed: (.*)$`, "m")) ?? [];
    expect(await readFile(log, "utf8")).toMatch(/^install: uv sync ended with exit code 1:\nit rains$/m);
    const again = matrix({}, "--phases", "install");
    expect(await again.ended, again.output).toBe(0);
    expect(existsSync(log)).toBe(false);
  });
});
