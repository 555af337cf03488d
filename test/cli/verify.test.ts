import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { expect, test } from "vitest";
import { holdings } from "../../src/verify/holdings.ts";
import { PHASES } from "../../src/verify/verify.ts";
import { entry, environment, makePath, run, tempFolder } from "./run.ts";

const MACHINE = { sh: true, env: true, sleep: true, setsid: true, sed: true } as const;
const CHOICES = { generator: "create-ai-stack", version: "0.1.0", name: "my-app", tools: {} };

/** A project, and what a run of verify in it takes, with a script that stands for uv. */
async function prepare(uv: string, env: Record<string, string> = {}) {
  const folder = await tempFolder();
  const [project, TMPDIR] = [join(folder, "my app"), join(folder, "tmp")];
  for (const each of [project, TMPDIR]) await mkdir(each);
  await writeFile(join(project, "ai-stack.json"), JSON.stringify(CHOICES));
  const PATH = await makePath({ ...MACHINE, uv });
  return { project, TMPDIR, options: { cwd: project, env: { PATH, TMPDIR, ...env } } };
}

/** The variables that uv was started with. */
async function seen(env: Record<string, string>, example?: string): Promise<Record<string, string>> {
  const { project, options } = await prepare("env; exit 1", env);
  if (example !== undefined) await writeFile(join(project, ".env.example"), example);
  const { stdout } = await run(["verify", "--phases", "install", "--json"], options);
  const lines: string[] = JSON.parse(stdout).phases[0].output.split("\n");
  return Object.fromEntries(lines.map((line) => line.split(/=(.*)/).slice(0, 2)));
}

test("what fails makes the exit code 1, and is an error in the JSON", async () => {
  const { project, TMPDIR, options } = await prepare('[ "$2" != mypy ] && exit 0; echo "x.py: wrong"; exit 1');
  const { exitCode, stdout } = await run(["verify", "--phases", "lint,types", "--json"], options);
  const { ok, error, directory, passed, phases, log } = JSON.parse(stdout);
  expect({ exitCode, ok, directory, passed }).toEqual({ exitCode: 1, ok: false, directory: project, passed: false });
  expect(error).toMatchObject({ code: "verify", message: "Failed: types." });
  expect(phases.map(({ result }: { result: string }) => result)).toEqual(["passed", "failed"]);
  expect(await readdir(TMPDIR)).toEqual([log.slice(TMPDIR.length + 1)]);
  expect(await readFile(log, "utf8")).toContain("run mypy\nx.py: wrong\n");
  expect((await stat(log)).mode & 0o077).toBe(0);
});

test("create --verify has the same verdict, and the project stays", async () => {
  const { TMPDIR, options } = await prepare('[ "$1" = run ] && echo "x.py: wrong" && exit 1; exit 0');
  const { exitCode, stdout } = await run(["my-app", "--yes", "--no-git", "--verify", "--json"], {
    ...options,
    cwd: TMPDIR,
  });
  const { ok, error, directory, verification } = JSON.parse(stdout);
  expect({ exitCode, ok, directory }).toEqual({ exitCode: 1, ok: false, directory: join(TMPDIR, "my-app") });
  expect(error.message).toBe("Failed: lint, types, tests, start.");
  expect(verification.phases.slice(0, 2)).toMatchObject([
    { phase: "install", result: "passed" },
    { phase: "lint", result: "failed", output: expect.stringContaining("x.py: wrong") },
  ]);
  expect(existsSync(join(directory, "ai-stack.json"))).toBe(true);
});

test("the help names the phases that there are", async () => {
  const { stdout } = await run(["verify", "--help"], { cwd: await tempFolder() });
  expect(stdout.replace(/\s+/g, " ")).toContain(`some of ${PHASES.join(",")}`);
});

test("no setting of the shell gets to the project, however it is written", async () => {
  const given = { APP_KEY: "k", app_port: "1", Own_Setting: "2", UV_ENV_FILE: ".env", OTHER: "3" };
  const found = await seen(given, "# OWN_SETTING=\n");
  expect(Object.keys(found).filter((name) => name in given)).toEqual(["OTHER"]);
});

test("nor where it names none in its .env.example", async () => {
  expect(await seen({ APP_KEY: "k" })).not.toHaveProperty("APP_KEY");
});

test("it installs from where create does, and asks its own model without a proxy", async () => {
  const given = { PIP_INDEX_URL: "https://mirror.example/simple", HTTP_PROXY: "http://proxy.example", NO_PROXY: "a" };
  expect(await seen(given)).toMatchObject({
    UV_DEFAULT_INDEX: given.PIP_INDEX_URL,
    HTTP_PROXY: given.HTTP_PROXY,
    NO_PROXY: "a,127.0.0.1,localhost",
  });
});

test.each([
  ["ask,x", 'There is no phase "x".', "Take some of: install,lint,"],
  ["start,", 'There is no phase "".', "Take some of: "],
  ["stop", "stop goes on from start.", "Take: start,stop"],
  ["start,kill", "kill goes on from ask.", "Take: start,ask,kill"],
  ["start,ask,kill,stop", "stop goes on from recover.", "Take: start,ask,kill,recover,stop"],
])("--phases %s is refused before anything runs", async (phases, message, hint) => {
  const { TMPDIR, options } = await prepare('echo ran > "$TMPDIR/../../ran"');
  const { exitCode, stdout } = await run(["verify", "--phases", phases, "--json"], options);
  expect(exitCode).toBe(2);
  const { error } = JSON.parse(stdout);
  expect(error).toMatchObject({ code: "phases", message });
  expect(error.hint).toContain(hint);
  expect(await readdir(TMPDIR)).toEqual([]);
});

test("a folder for temporary files that is not there is told", async () => {
  const { options } = await prepare("exit 0", { TMPDIR: "/there/is/none" });
  const { exitCode, stderr } = await run(["verify"], options);
  expect(exitCode).toBe(1);
  expect(stderr).toContain("Cannot use /there/is/none: ");
  expect(stderr).not.toContain("A bug");
});

test.runIf(process.platform === "linux")("Ctrl-C ends it, and what has left its process group", async () => {
  const { project, TMPDIR, options } = await prepare('setsid sleep 60 & echo > "$TMPDIR/../../begun"; exec sleep 60');
  const started = { ...options, env: environment(options.env), extendEnv: false, reject: false } as const;
  const verifying = execa(process.execPath, [entry(), "verify", "--phases", "install", "--json"], started);
  while (!existsSync(join(TMPDIR, "begun"))) await new Promise((resolve) => setTimeout(resolve, 20));
  verifying.kill("SIGINT");
  const { exitCode, stdout } = await verifying;
  expect(exitCode).toBe(130);
  expect(JSON.parse(stdout).error).toMatchObject({ code: "cancelled", hint: `Nothing of ${project} is left running.` });
  expect([...(await holdings(undefined, [project])).processes.values()]).toEqual([]);
  expect(await readdir(TMPDIR)).toEqual(["begun"]);
});
