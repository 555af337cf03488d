import { accessSync, constants, statSync } from "node:fs";
import { delimiter, join } from "node:path";
import type { Tooling } from "./steps.ts";

const isWindows = process.platform === "win32";

/** A Python that is new enough, and how to call it. */
export interface Python {
  argv: string[];
  command: string;
}

/** The file that a command name leads to. Looking at PATH is quicker than starting the command. */
export function findOnPath(command: string): string | undefined {
  const extensions = isWindows ? (process.env["PATHEXT"] ?? ".EXE;.CMD").split(";") : [""];
  return (process.env["PATH"] ?? "")
    .split(delimiter)
    .filter((folder) => folder !== "")
    .flatMap((folder) => extensions.map((extension) => join(folder, command + extension)))
    .find(isExecutable);
}

/** The newest Python from 3.11 up; else the version of one that is too old. */
export async function findPython(): Promise<Python | { tooOld: string } | undefined> {
  let tooOld: string | undefined;
  for (const argv of CANDIDATES) {
    const version = await versionOf(argv);
    if (version === undefined) continue;
    const [major = 0, minor = 0] = version.split(".").map(Number);
    if (major === 3 && minor >= 11) return { argv, command: argv.join(" ") };
    tooOld ??= version;
  }
  return tooOld === undefined ? undefined : { tooOld };
}

/** How a project is installed and started here. */
export async function findTooling(): Promise<Tooling> {
  if (findOnPath("uv") !== undefined) return { uv: true };
  const python = await findPython();
  return { uv: false, python: python !== undefined && "command" in python ? python.command : "python3" };
}

/** What to type to get uv or Python on this system. */
export function installPythonHint(): string {
  const [, hint] = PACKAGE_MANAGERS.find(([manager]) => findOnPath(manager) !== undefined) ?? FALLBACK;
  return hint;
}

const VERSIONS = ["3.14", "3.13", "3.12", "3.11"];

// On Windows `py` is the launcher; a bare `python` may be the store's stub, which prints no version.
const CANDIDATES = isWindows
  ? [...VERSIONS.map((version) => ["py", `-${version}`]), ["python"], ["python3"]]
  : [...VERSIONS.map((version) => [`python${version}`]), ["python3"], ["python"]];

const PACKAGE_MANAGERS: [manager: string, hint: string][] = isWindows
  ? [["winget", "Install uv: winget install astral-sh.uv (then open a new terminal)"]]
  : [
      ["brew", "Install uv: brew install uv"],
      ["apt-get", "Install Python: sudo apt-get install python3 python3-venv"],
      ["dnf", "Install uv: sudo dnf install uv"],
      ["pacman", "Install uv: sudo pacman -S uv"],
      ["apk", "Install uv: sudo apk add uv"],
      ["zypper", "Install Python: sudo zypper install python313"],
    ];

const FALLBACK: [string, string] = ["", "Install Python 3.11 or newer from python.org, or uv from docs.astral.sh/uv"];

async function versionOf([command = "", ...args]: string[]): Promise<string | undefined> {
  if (findOnPath(command) === undefined) return undefined;
  // Loaded here alone: most runs only look at PATH.
  const { execa } = await import("execa");
  const probe = "import sys; print('%d.%d' % sys.version_info[:2])";
  const { exitCode, stdout } = await execa(command, [...args, "-c", probe], {
    stdin: "ignore",
    timeout: 20_000,
    reject: false,
  });
  return exitCode === 0 && /^\d+\.\d+$/.test(stdout) ? stdout : undefined;
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}
