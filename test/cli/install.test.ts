import { existsSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { expect, test } from "vitest";
import { entry, environment, makePath, readTree, run, tempFolder } from "./run.ts";

const ARGS = ["my-app", "--yes"];
const LOCK = 'echo "$PWD: $* index=$UV_INDEX_URL" >> "$LOG"; echo locked > uv.lock';
const FAILS = 'echo "error: $1" >&2; exit 1';

/** Runs create with these commands on the PATH, `uv` being a script. */
async function create(commands: Record<string, string | true>, args = ARGS, env: Record<string, string> = {}) {
  const cwd = await tempFolder();
  const log = join(await tempFolder(), "log");
  const PATH = await makePath({ git: true, sh: true, cat: true, grep: true, sleep: true, ...commands });
  const result = await run(args, { cwd, env: { PATH, LOG: log, ...env } });
  const calls = await readFile(log, "utf8").catch(() => "");
  return { ...result, cwd, project: join(cwd, "my-app"), calls: calls.replaceAll(cwd, ".") };
}

test("uv sync runs in the project, with the user's environment, and uv.lock is in the first commit", async () => {
  const { exitCode, stdout, project, calls } = await create({ uv: LOCK }, ARGS, {
    UV_INDEX_URL: "https://index.example",
  });
  expect(exitCode).toBe(0);
  expect(calls).toBe("./my-app: sync index=https://index.example\n");
  const { stdout: files } = await execa("git", ["ls-files"], { cwd: project });
  expect(files.split("\n")).toContain("uv.lock");
  expect(stdout).toContain("Next:\n  cd my-app\n  uv run my-app dev\n");
});

test("what pip and npm are told, uv is told, and it says so", async () => {
  const uv = `echo "$UV_DEFAULT_INDEX $HTTPS_PROXY" >> "$LOG"; grep -c "the company's" "$SSL_CERT_FILE" >> "$LOG"; ${LOCK}`;
  const company = join(await tempFolder(), "company.pem");
  await writeFile(company, "the company's\n");
  const { stdout, calls } = await create({ uv }, ARGS, {
    PIP_INDEX_URL: "https://me:secret@index.example/simple",
    npm_config_https_proxy: "http://proxy.example:3128",
    npm_config_cafile: company,
  });
  expect(calls).toMatch(/^https:\/\/me:secret@index\.example\/simple http:\/\/proxy\.example:3128\n1\n/);
  expect(stdout).toContain("the install took UV_DEFAULT_INDEX, HTTPS_PROXY, SSL_CERT_FILE.");
  expect(stdout).not.toContain("secret");
});

test("--no-install installs nothing and says how to", async () => {
  const { stdout, calls } = await create({ uv: LOCK }, [...ARGS, "--no-install"]);
  expect(calls).toBe("");
  expect(stdout).toContain("Next:\n  cd my-app\n  uv sync\n  uv run my-app dev\n");
});

test("a failed install leaves the project, and tells the cause and the command to try again", async () => {
  const script = FAILS.replace("$1", "error sending request for url (https://me:secret@index.example/simple)");
  const { exitCode, stderr, project } = await create({ uv: script });
  expect(exitCode).toBe(1);
  expect(stderr).toContain("https://***@index.example/simple");
  expect(stderr).not.toContain("secret");
  expect(stderr).toMatch(/To try again:\n {2}cd my-app\n {2}uv sync$/);
  expect(await readTree(project)).toHaveProperty(["ai-stack.json"]);
});

test("--verbose shows what uv prints, on stderr", async () => {
  const uv = `echo "Resolved 9 packages"; ${LOCK}`;
  const { stdout, stderr } = await create({ uv }, [...ARGS, "--verbose"]);
  expect(stderr).toContain("Resolved 9 packages");
  expect(stdout).not.toContain("Resolved");
});

test("a failed install with --json is one document", async () => {
  const { exitCode, stdout } = await create({ uv: FAILS }, [...ARGS, "--json"]);
  expect(exitCode).toBe(1);
  expect(JSON.parse(stdout)).toMatchObject({ ok: false, error: { code: "install" } });
});

test("where the newest releases do not fit, the tested ones are installed, and it says so", async () => {
  const uv = `grep -q constraint-dependencies pyproject.toml && { ${LOCK}; exit 0; }; echo "No solution found" >&2; exit 1`;
  const { exitCode, stdout, project } = await create({ uv });
  expect(exitCode).toBe(0);
  expect(stdout).toContain("the tested versions were installed");
  const pyproject = await readFile(join(project, "pyproject.toml"), "utf8");
  expect(pyproject).toContain('[tool.uv]\nconstraint-dependencies = [\n  "attrs==25.4.0",\n  "pydantic==2.12.4",\n]\n');
});

test("where the tested ones fail as well, pyproject.toml is as it was", async () => {
  const { exitCode, stderr, project } = await create({ uv: FAILS.replace("$1", "No solution found") });
  expect(exitCode).toBe(1);
  expect(stderr).toContain("No solution found");
  expect(await readFile(join(project, "pyproject.toml"), "utf8")).not.toContain("constraint-dependencies");
});

test("without uv, it comes into .venv, and every command printed uses it there", async () => {
  const venv = [
    'if [ "$1" = -c ]; then echo 3.12; exit; fi',
    "mkdir -p .venv/bin",
    `printf '#!/bin/sh\\necho "pip: $*" >> "$LOG"; cp "$UV" .venv/bin/uv\\n' > .venv/bin/python`,
    "chmod +x .venv/bin/python",
    'echo "python: $*" >> "$LOG"',
  ].join("\n");
  const uv = join(await makePath({ "fake-uv": LOCK }), "fake-uv");
  const commands = { "python3.12": venv, mkdir: true, chmod: true, cp: true } as const;
  const { exitCode, stdout, calls } = await create(commands, ARGS, { UV: uv });
  expect(exitCode).toBe(0);
  expect(calls).toBe(
    "python: -m venv .venv\npip: -m pip config list\npip: -m pip install --quiet uv\n./my-app: sync --inexact index=\n",
  );
  expect(stdout).toContain("Next:\n  cd my-app\n  .venv/bin/uv run my-app dev\n");
});

test("without uv, --no-install prints commands that start from Python", async () => {
  const { stdout } = await create({ python3: "echo 3.11" }, [...ARGS, "--no-install"]);
  expect(stdout).toContain(
    "  cd my-app\n  python3 -m venv .venv\n  .venv/bin/python -m pip install uv\n  .venv/bin/uv sync --inexact\n  .venv/bin/uv run my-app dev\n",
  );
});

test("a Python without venv names the package that is missing", async () => {
  const python = 'if [ "$1" = -c ]; then echo 3.13; else echo "ensurepip is not available" >&2; exit 1; fi';
  const { exitCode, stderr, project } = await create({ "python3.13": python });
  expect(exitCode).toBe(1);
  expect(stderr).toContain("python3-venv");
  expect(await readTree(project)).toHaveProperty(["ai-stack.json"]);
});

test("without uv and with an old Python it says what to install here", async () => {
  const { exitCode, stderr } = await create({ python3: "echo 3.9", "apt-get": "exit 1" });
  expect(exitCode).toBe(1);
  expect(stderr).toContain("uv is not here, and Python is 3.9");
  expect(stderr).toContain("sudo apt-get install python3 python3-venv");
});

test("Ctrl-C while it installs stops uv, keeps the project and says how to go on", async () => {
  const cwd = await tempFolder();
  const PATH = await makePath({ git: true, sh: true, sleep: true, touch: true, uv: "touch started; exec sleep 60" });
  const options = { cwd, env: environment({ PATH }), extendEnv: false, reject: false } as const;
  const child = execa(process.execPath, [entry(), ...ARGS], options);
  while (!existsSync(join(cwd, "my-app/started"))) await new Promise((resolve) => setTimeout(resolve, 50));
  child.kill("SIGINT");
  const { exitCode, stderr } = await child;
  expect(exitCode).toBe(130);
  expect(stderr).toContain("is complete, but its dependencies are not installed");
  expect(await readTree(cwd)).toHaveProperty(["my-app/ai-stack.json"]);
});
