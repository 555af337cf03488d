import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { makePath, run, tempFolder } from "./run.ts";

type Commands = Record<string, string | true>;

const MACHINE = { git: true, sh: true, cat: true } as const;
const FOUND = { name: "port", status: "ok", detail: "127.0.0.1:8000 is free.", remedy: null };
const FAULT = { name: "database", status: "failed", detail: "It does not answer.", remedy: "Start it." };

/** A uv that knows a Python, and gives what a script prints for `uv run`. */
function uv(runs: string, python = "echo /usr/bin/python3"): Commands {
  return { uv: `case "$1" in --version) echo "uv 0.13.9";; python) ${python};; run) ${runs};; esac` };
}

/** Runs doctor, in a project where `choices` are given. */
async function doctor(commands: Commands, { args = [""], project = true, env = {}, choices = CHOICES } = {}) {
  const cwd = join(await tempFolder(), "my app");
  await mkdir(join(cwd, "below"), { recursive: true });
  if (project) {
    await writeFile(join(cwd, "ai-stack.json"), choices);
    await writeFile(join(cwd, "pyproject.toml"), '[project]\nname = "my-app"\nrequires-python = ">=3.11,<3.14"\n');
  }
  const PATH = await makePath({ ...MACHINE, ...commands });
  const given = ["doctor", ...args].filter((arg) => arg !== "");
  const result = await run(given, { cwd: project ? join(cwd, "below") : cwd, env: { PATH, ...env } });
  const checks = args.includes("--json") ? JSON.parse(result.stdout).checks : [];
  const of = (name: string) => checks.find((check: { name: string }) => check.name === name);
  return { ...result, cwd, of };
}

const CHOICES = JSON.stringify({
  generator: "create-ai-stack",
  version: "0.1.0",
  name: "my-app",
  tools: { store: "shelf", view: "window" },
});

test("outside of a project, it checks the machine alone, and says so", async () => {
  const { exitCode, stdout } = await doctor(uv("exit 1"), { project: false });
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/^ok +node +\d+\.\d+\.\d+ \(.+\)\nok +uv +0\.13\.9 .+\nok +python .+\nok +git +\d.+\n/);
  expect(stdout).toContain("There is no project here");
  const { stdout: json } = await doctor(uv("exit 1"), { project: false, args: ["--json"] });
  expect(JSON.parse(json)).toMatchObject({ ok: true, project: null });
});

test("inside, what the project's own doctor finds is in the same list", async () => {
  const answer = `echo "$PWD: $*" >&2; echo '${JSON.stringify([FOUND, FAULT])}'; exit 1`;
  const plain = await doctor(uv(answer));
  expect(plain.exitCode).toBe(1);
  expect(plain.stdout).toMatch(/^ok +node [\s\S]+^ok +port +127.0.0.1:8000 is free\.$/m);
  expect(plain.stdout).toMatch(/^failed +database +It does not answer\.\n +Remedy: Start it\.$/m);

  const { exitCode, stdout, cwd } = await doctor(uv(answer), { args: ["--json"] });
  expect(exitCode).toBe(1);
  const { ok, project, checks, error } = JSON.parse(stdout);
  expect({ ok, project }).toEqual({ ok: false, project: cwd });
  expect(checks.slice(4)).toEqual([FOUND, FAULT]);
  expect(error).toMatchObject({ code: "doctor", message: "Failed: database." });
});

test("it asks the project in its own folder, by the name that it has", async () => {
  const { of, cwd } = await doctor(uv('echo "$PWD: $*" >&2; exit 2'), { args: ["--json"] });
  expect(of("project")).toMatchObject({
    status: "failed",
    detail: `It does not start: ${cwd}: run my-app doctor --json`,
    remedy: expect.stringContaining("uv run my-app doctor"),
  });
});

test("a project without a doctor is to be updated", async () => {
  const { exitCode, of } = await doctor(uv("echo \"No such command 'doctor'.\" >&2; exit 2"), { args: ["--json"] });
  expect(exitCode).toBe(1);
  expect(of("project")).toMatchObject({ status: "failed", remedy: expect.stringContaining("create-ai-stack update") });
});

const ODD = ['{"name":"x","status":"toString","detail":""}', '{"name":"x","status":"failed","detail":"","remedy":1}'];

test.each(["", "null", "[]", "[1]", '{"checks": []}', ...ODD.map((check) => `[${check}]`)])(
  "an answer that is none is a fault of the project: %s",
  async (answer) => {
    const { exitCode, of } = await doctor(uv(`echo '${answer}'`), { args: ["--json"] });
    expect(exitCode).toBe(1);
    expect(of("project")).toMatchObject({ status: "failed" });
  },
);

test("a damaged ai-stack.json is told with how to mend it, beside what the machine has", async () => {
  const { exitCode, stdout } = await doctor(uv(""), { choices: "{" });
  expect(exitCode).toBe(1);
  expect(stdout).toMatch(/^ok +uv /m);
  expect(stdout).toMatch(/^failed +project +.+ is damaged: .+\n +Remedy: .*git restore ai-stack\.json$/m);
});

test("without uv and Python, it says what to install here, and does not ask the project", async () => {
  const commands = { python3: "echo 3.9", "apt-get": "exit 1" };
  const { exitCode, of } = await doctor(commands, { args: ["--json"] });
  expect(exitCode).toBe(1);
  expect(of("uv")).toMatchObject({ status: "failed", remedy: expect.stringContaining("sudo apt-get install python3") });
  expect(of("python")).toMatchObject({ status: "failed", detail: expect.stringContaining("3.9 is too old") });
  expect(of("project")).toMatchObject({ status: "skipped" });
});

test("without uv, a Python can bring it", async () => {
  const { of } = await doctor({ python3: "echo 3.12" }, { args: ["--json"] });
  expect(of("uv")).toMatchObject({ status: "warning", remedy: expect.stringContaining("python3 -m venv .venv") });
  expect(of("python")).toMatchObject({ status: "ok", detail: "python3" });
});

test("a Python that the project does not run with: uv downloads one, unless it may not", async () => {
  const none = '[ "$2" = list ] && echo "cpython-3.13.1 <download available>" || { echo "error: none" >&2; exit 2; }';
  const answer = `echo '${JSON.stringify([FOUND])}'`;
  const may = await doctor(uv(answer, none), { args: ["--json"] });
  expect(may.of("python")).toMatchObject({ status: "ok", detail: expect.stringContaining(">=3.11,<3.14") });
  const mayNot = await doctor(uv(answer, none), { args: ["--json"], env: { UV_PYTHON_DOWNLOADS: "never" } });
  expect(mayNot.exitCode).toBe(1);
  expect(mayNot.of("python")).toMatchObject({
    detail: "error: none",
    remedy: expect.stringContaining('uv python install ">=3.11,<3.14"'),
  });
});

test("without git, it warns", async () => {
  const PATH = await makePath({ sh: true, ...uv("") });
  const { exitCode, stdout } = await run(["doctor"], { cwd: await tempFolder(), env: { PATH } });
  expect(exitCode).toBe(0);
  expect(stdout).toMatch(/^warning +git +.+\n +Remedy: .*git/m);
});

test("a program that cannot start is a fault, not a bug", async () => {
  const { exitCode, of } = await doctor({ uv: "exit 3" }, { args: ["--json"] });
  expect(exitCode).toBe(1);
  expect(of("uv")).toMatchObject({ status: "failed" });
});
