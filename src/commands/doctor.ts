import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { Cancelled, EXIT, UserError } from "../errors.ts";
import { tail } from "../install.ts";
import { findOnPath, findPython, installPythonHint } from "../machine.ts";
import type { Output } from "../output.ts";
import { findProject, findUv, readProject } from "../project.ts";
import { abortOnSignals } from "../signals.ts";
import { changeDirectory, setupSteps } from "../steps.ts";

interface Check {
  name: string;
  status: "ok" | "warning" | "failed" | "skipped";
  detail: string;
  /** What to do where it is not ok. */
  remedy: string | null;
}

/** Runs a program in a folder. */
type Run = (program: string, ...args: string[]) => Promise<{ ok: boolean; stdout: string; stderr: string }>;

/** What is wrong with this machine and, inside of a project, with that. Returns the exit code. */
export async function doctor(output: Output): Promise<number> {
  const root = findRoot();
  const run = runIn(root ?? process.cwd(), abortOnSignals());
  const uv = findUv(root);
  const checks = [checkNode(), await checkUv(uv, run), await checkPython(uv, root, run), await checkGit(run)];
  if (root !== undefined) {
    checks.push(...(await output.progress("Asking the project", () => askProject(root, uv, run))));
  }
  const isWell = checks.every(({ status }) => status !== "failed");
  output.result({ ok: isWell, project: root ?? null, checks, ...(isWell ? {} : problem(checks)) });
  if (!output.json) show(checks, root, output);
  return isWell ? EXIT.ok : EXIT.failure;
}

function findRoot(): string | undefined {
  try {
    return findProject(process.cwd());
  } catch (error) {
    if (error instanceof UserError && error.code === "no-project") return undefined;
    throw error;
  }
}

/** bin/create-ai-stack.js has refused an older one. */
function checkNode(): Check {
  return ok("node", `${process.versions.node} (${process.execPath})`);
}

async function checkUv(uv: string | undefined, run: Run): Promise<Check> {
  if (uv !== undefined) {
    const { ok: runs, stdout, stderr } = await run(uv, "--version");
    return runs ? ok("uv", `${version(stdout)} (${uv})`) : failed("uv", `${uv}: ${tail(stderr)}`, installPythonHint());
  }
  const python = await findPython();
  if (python === undefined || "tooOld" in python) return failed("uv", "It is not here.", installPythonHint());
  const steps = setupSteps({ uv: false, python: python.command }).join(" && ");
  return {
    name: "uv",
    status: "warning",
    detail: "It is not here; it can come into a project's .venv.",
    remedy: steps,
  };
}

/** A Python that the project can run with, or that uv would download. */
async function checkPython(uv: string | undefined, root: string | undefined, run: Run): Promise<Check> {
  const wanted = root === undefined ? OLDEST : requiredPython(root);
  if (uv === undefined) {
    const python = await findPython();
    if (python !== undefined && "command" in python) return ok("python", python.command);
    const found = python === undefined ? "It is not here." : `${python.tooOld} is too old for ${wanted}.`;
    return failed("python", found, installPythonHint());
  }
  const found = await run(uv, "python", "find", ...(root === undefined ? ["--no-project", wanted] : []));
  if (found.ok) return ok("python", found.stdout);
  const downloads = await run(uv, "python", "list", "--only-downloads", wanted);
  if (downloads.stdout !== "" && !/^(?:never|manual)$/.test(process.env["UV_PYTHON_DOWNLOADS"] ?? "")) {
    return ok("python", `None is here for ${wanted}; uv downloads one when it is needed.`);
  }
  return failed("python", tail(found.stderr), `Install one: uv python install "${wanted}"`);
}

const OLDEST = ">=3.11";

function requiredPython(root: string): string {
  const file = join(root, "pyproject.toml");
  const text = existsSync(file) ? readFileSync(file, "utf8") : "";
  return text.match(/^requires-python\s*=\s*["'](.+?)["']/m)?.[1] ?? OLDEST;
}

async function checkGit(run: Run): Promise<Check> {
  const git = findOnPath("git");
  if (git === undefined) {
    const detail = "It is not here: a new project gets no repository, and swap and update have no way back.";
    return { name: "git", status: "warning", detail, remedy: "Install git: https://git-scm.com/downloads" };
  }
  const { ok: runs, stdout, stderr } = await run(git, "--version");
  return runs ? ok("git", `${version(stdout)} (${git})`) : failed("git", tail(stderr), "Run `git --version`.");
}

/** What the project's own `doctor` says. */
async function askProject(root: string, uv: string | undefined, run: Run): Promise<Check[]> {
  let name: string;
  try {
    ({ name } = readProject(root));
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return [failed("project", error.message, error.hint)];
  }
  if (uv === undefined) return [{ name: "project", status: "skipped", detail: "It needs uv.", remedy: null }];
  const { stdout, stderr } = await run(uv, "run", name, "doctor", "--json");
  const checks = parseChecks(stdout);
  if (checks !== undefined) return checks;
  if (/No such command/.test(stderr)) {
    return [failed("project", "Its version has no doctor.", "npx create-ai-stack update")];
  }
  const steps = [...changeDirectory(root, process.cwd()), `uv run ${name} doctor`].join(" && ");
  return [failed("project", `It does not start: ${tail(stderr) || tail(stdout)}`, `Run it yourself: ${steps}`)];
}

function parseChecks(text: string): Check[] | undefined {
  try {
    const checks: unknown = JSON.parse(text);
    return Array.isArray(checks) && checks.length > 0 && checks.every(isCheck) ? checks : undefined;
  } catch {
    return undefined;
  }
}

function isCheck(value: unknown): value is Check {
  if (typeof value !== "object" || value === null) return false;
  const { name, status, detail, remedy } = value as Partial<Check>;
  const isText = typeof name === "string" && typeof detail === "string" && typeof (remedy ?? "") === "string";
  return isText && Object.hasOwn(MARKS, status ?? "");
}

function show(checks: Check[], root: string | undefined, output: Output): void {
  const { bold, cyan } = output.colors;
  const width = Math.max(...checks.map(({ name }) => name.length));
  const indent = " ".repeat(width + 12);
  for (const { name, status, detail, remedy } of checks) {
    const line = `${output.colors[MARKS[status]](status.padEnd(8))}  ${bold(name.padEnd(width))}  ${detail}`;
    output.say(line.replaceAll("\n", `\n${indent}`));
    if (remedy) output.say(`${indent}Remedy: ${cyan(remedy.replaceAll("\n", `\n${indent}`))}`);
  }
  if (root === undefined) output.say("There is no project here, so the machine alone was checked.");
}

const MARKS = { ok: "green", warning: "yellow", failed: "red", skipped: "dim" } as const;

function problem(checks: Check[]) {
  const names = checks.filter(({ status }) => status === "failed").map(({ name }) => name);
  return { error: { code: "doctor", message: `Failed: ${names.join(", ")}.`, hint: "See checks." } };
}

function ok(name: string, detail: string): Check {
  return { name, status: "ok", detail, remedy: null };
}

function failed(name: string, detail: string, remedy: string): Check {
  return { name, status: "failed", detail, remedy };
}

function version(text: string): string {
  return text.match(/\d+\.\d+(?:\.\d+)*/)?.[0] ?? text;
}

function runIn(cwd: string, cancelSignal: AbortSignal): Run {
  return async (program, ...args) => {
    const options = { cwd, stdin: "ignore", reject: false, cancelSignal } as const;
    const { exitCode, stdout, stderr, isCanceled, message } = await execa(program, args, options);
    if (isCanceled || cancelSignal.aborted) throw new Cancelled();
    return { ok: exitCode === 0, stdout, stderr: exitCode === undefined ? (message ?? "") : stderr };
  };
}
