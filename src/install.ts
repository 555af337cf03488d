import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { Cancelled, EXIT, UserError } from "./errors.ts";
import { pinUv } from "./fragments/pins.ts";
import { findOnPath, findPython, installPythonHint, type Python } from "./machine.ts";
import { changeDirectory, setupSteps, uvInVenv } from "./steps.ts";

export interface Install {
  folder: string;
  /** The content of the project's constraints.txt. */
  constraints: string;
  verbose: boolean;
  signal: AbortSignal;
}

/** Installs the dependencies and writes `uv.lock`. Returns a note where it went another way than usual. */
export async function install(project: Install): Promise<string | undefined> {
  const uv = findOnPath("uv");
  if (uv !== undefined) return sync(project, uv, ["sync"], setupSteps({ uv: true }));
  const python = await findPython();
  if (python === undefined || "tooOld" in python) {
    throw failure(
      project,
      "no-python",
      noPython(python?.tooOld),
      installPythonHint(),
      setupSteps({ uv: false, python: "python3" }),
    );
  }
  const steps = setupSteps({ uv: false, python: python.command });
  await bootstrapUv(project, python, steps);
  // An exact sync would remove uv itself from the environment.
  return sync(project, join(project.folder, uvInVenv()), ["sync", "--inexact"], steps.slice(-1));
}

async function bootstrapUv(project: Install, python: Python, steps: string[]): Promise<void> {
  const [command = "python3", ...args] = python.argv;
  const venv = await run(project, command, [...args, "-m", "venv", ".venv"]);
  if (!venv.ok) {
    await rm(join(project.folder, ".venv"), { recursive: true, force: true });
    const hint = /ensurepip|python3-venv/.test(venv.output)
      ? "This Python has no venv. On Debian and Ubuntu: sudo apt install python3-venv"
      : installPythonHint();
    throw failure(project, "venv", `${python.command} could not make .venv: ${tail(venv.output)}`, hint, steps);
  }
  const pip = await run(project, join(project.folder, uvInVenv("python")), ["-m", "pip", "install", "--quiet", "uv"]);
  if (!pip.ok) throw failure(project, "pip", `pip could not install uv: ${tail(pip.output)}`, "", steps.slice(1));
}

async function sync(project: Install, uv: string, args: string[], steps: string[]): Promise<string | undefined> {
  const first = await run(project, uv, args);
  if (first.ok) return undefined;
  if (!OUT_OF_REACH.test(first.output)) {
    const pyproject = join(project.folder, "pyproject.toml");
    const original = await readFile(pyproject, "utf8");
    await writeFile(pyproject, pinUv(original, project.constraints));
    let isPinned = false;
    try {
      isPinned = (await run(project, uv, args)).ok;
    } finally {
      if (!isPinned) await writeFile(pyproject, original);
    }
    if (isPinned) return PINNED;
  }
  throw failure(project, "install", `uv could not install the dependencies:\n${tail(first.output)}`, "", steps);
}

const OUT_OF_REACH =
  /error sending request|failed to (?:fetch|download)|dns error|connection (?:refused|reset|closed)|operation timed out|certificate|network (?:connectivity is|was) disabled|no space left/i;

const PINNED =
  "The newest releases do not fit together, so the tested versions were installed. " +
  "To try newer ones later, remove constraint-dependencies from pyproject.toml.";

async function run({ folder, verbose, signal }: Install, command: string, args: string[]) {
  // The environment goes through as it is: proxy, index and certificate settings are the user's.
  const { exitCode, all, isCanceled, message } = await execa(command, args, {
    cwd: folder,
    stdin: "ignore",
    all: true,
    stdout: verbose ? ["pipe", process.stderr] : "pipe",
    stderr: verbose ? ["pipe", process.stderr] : "pipe",
    cancelSignal: signal,
    reject: false,
  });
  if (isCanceled || signal.aborted)
    throw new Cancelled(`${folder} is complete, but its dependencies are not installed.`);
  return { ok: exitCode === 0, output: all === "" ? (message ?? "") : all };
}

function noPython(tooOld: string | undefined): string {
  const found = tooOld === undefined ? "neither is here" : `uv is not here, and Python is ${tooOld}`;
  return `The project is written, but it needs uv, or Python 3.11 or newer, to install: ${found}.`;
}

function failure({ folder }: Install, code: string, message: string, hint: string, steps: string[]): UserError {
  const commands = [...changeDirectory(folder, process.cwd()), ...steps].map((step) => `  ${step}`);
  const again = `To try again:\n${commands.join("\n")}`;
  return new UserError({ code, message, hint: hint === "" ? again : `${hint}\n${again}`, exitCode: EXIT.failure });
}

/** The end of a tool's output, without the passwords that its URLs may hold. */
export function tail(output: string): string {
  const lines = output.split("\n").filter((line) => line.trim() !== "");
  return lines
    .slice(-15)
    .join("\n")
    .replace(/(\w+:\/\/)[^\s/@]+@/g, "$1***@");
}
