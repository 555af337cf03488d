import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { Cancelled, EXIT, UserError } from "./errors.ts";
import { pinUv } from "./fragments/pins.ts";
import { findOnPath, findPython, installPythonHint, type Python } from "./machine.ts";
import { changeDirectory, setupSteps, uvInVenv } from "./steps.ts";
import { bundleAuthorities, deriveUvSettings } from "./uv-settings.ts";

export interface Install {
  folder: string;
  /** The content of the project's constraints.txt. */
  constraints: string;
  verbose: boolean;
  signal: AbortSignal;
}

/** With what uv and pip need beside the environment that is there. */
interface Derived extends Install {
  variables?: Record<string, string>;
  notes?: string[];
}

/** Installs the dependencies and writes `uv.lock`. Returns notes where it went another way than usual. */
export async function install(project: Install): Promise<string[]> {
  const uv = findOnPath("uv");
  if (uv !== undefined) return derive(project, "", (derived) => sync(derived, uv, ["sync"], setupSteps({ uv: true })));
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
  await makeVenv(project, python, steps);
  const pip = [join(project.folder, uvInVenv("python")), "-m", "pip"] as const;
  // Never shown: an index's address may hold a password.
  const { output: pipConfig } = await run({ ...project, verbose: false }, ...pip, "config", "list");
  return derive(project, pipConfig, async (derived) => {
    const uvByPip = await run(derived, ...pip, "install", "--quiet", "uv");
    if (!uvByPip.ok) {
      throw failure(derived, "pip", `pip could not install uv: ${tail(uvByPip.output)}`, "", steps.slice(1));
    }
    // An exact sync would remove uv itself from the environment.
    return sync(derived, join(project.folder, uvInVenv()), ["sync", "--inexact"], steps.slice(-1));
  });
}

/** uv reads neither pip's nor npm's settings; who has set them wants them respected. */
async function derive<Result>(
  project: Install,
  pipConfig: string,
  use: (derived: Derived) => Promise<Result>,
): Promise<Result> {
  const { variables, authorities } = deriveUvSettings(process.env, pipConfig);
  const bundle = bundleAuthorities(authorities);
  const names = [...Object.keys(variables), ...(bundle === undefined ? [] : ["SSL_CERT_FILE"])].join(", ");
  const notes = names === "" ? [] : [`uv reads no settings of pip or npm. From these, the install took ${names}.`];
  const trust = bundle === undefined ? {} : { SSL_CERT_FILE: bundle.file, PIP_CERT: bundle.file };
  try {
    return await use({ ...project, variables: { ...variables, ...trust }, notes });
  } finally {
    if (bundle !== undefined) await rm(bundle.folder, { recursive: true, force: true });
  }
}

async function makeVenv(project: Install, python: Python, steps: string[]): Promise<void> {
  const [command = "python3", ...args] = python.argv;
  const venv = await run(project, command, ...args, "-m", "venv", ".venv");
  if (!venv.ok) {
    await rm(join(project.folder, ".venv"), { recursive: true, force: true });
    const hint = /ensurepip|python3-venv/.test(venv.output)
      ? "This Python has no venv. On Debian and Ubuntu: sudo apt install python3-venv"
      : installPythonHint();
    throw failure(project, "venv", `${python.command} could not make .venv: ${tail(venv.output)}`, hint, steps);
  }
}

async function sync(project: Derived, uv: string, args: string[], steps: string[]): Promise<string[]> {
  const notes = project.notes ?? [];
  const first = await run(project, uv, ...args);
  if (first.ok) return notes;
  if (!OUT_OF_REACH.test(first.output)) {
    const pyproject = join(project.folder, "pyproject.toml");
    const original = await readFile(pyproject, "utf8");
    await writeFile(pyproject, pinUv(original, project.constraints));
    let isPinned = false;
    try {
      isPinned = (await run(project, uv, ...args)).ok;
    } finally {
      if (!isPinned) await writeFile(pyproject, original);
    }
    if (isPinned) return [...notes, PINNED];
  }
  throw failure(project, "install", `uv could not install the dependencies:\n${tail(first.output)}`, "", steps);
}

const OUT_OF_REACH =
  /error sending request|failed to (?:fetch|download)|dns error|connection (?:refused|reset|closed)|operation timed out|certificate|network (?:connectivity is|was) disabled|no space left/i;

const PINNED =
  "The newest releases do not fit together, so the tested versions were installed. " +
  "To try newer ones later, remove constraint-dependencies from pyproject.toml.";

async function run({ folder, verbose, signal, variables }: Derived, command: string, ...args: string[]) {
  const { exitCode, all, isCanceled, message } = await execa(command, args, {
    cwd: folder,
    env: variables ?? {},
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

function failure(project: Derived, code: string, message: string, hint: string, steps: string[]): UserError {
  const { folder, notes = [] } = project;
  const commands = [...changeDirectory(folder, process.cwd()), ...steps].map((step) => `  ${step}`);
  const again = `To try again:\n${commands.join("\n")}`;
  const lines = [hint, ...notes, again].filter((line) => line !== "");
  return new UserError({ code, message, hint: lines.join("\n"), exitCode: EXIT.failure });
}

/** The end of a tool's output, without the passwords that its URLs may hold. */
export function tail(output: string): string {
  const lines = output.split("\n").filter((line) => line.trim() !== "");
  return lines
    .slice(-15)
    .join("\n")
    .replace(/(\w+:\/\/)[^\s/@]+@/g, "$1***@");
}
