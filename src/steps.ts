import { dirname, isAbsolute, relative, sep } from "node:path";

const isWindows = process.platform === "win32";

export type Tooling = { uv: true } | { uv: false; python: string };

/** Where a program lies in the project's environment, as one types it. */
export function uvInVenv(program = "uv"): string {
  return isWindows ? `.venv\\Scripts\\${program}.exe` : `.venv/bin/${program}`;
}

/** The commands that install a project's dependencies. */
export function setupSteps(tooling: Tooling): string[] {
  if (tooling.uv) return ["uv sync"];
  return [`${tooling.python} -m venv .venv`, `${uvInVenv("python")} -m pip install uv`, `${uvInVenv()} sync --inexact`];
}

/** The commands that start a project, to be typed in the current folder. */
export function nextSteps(name: string, path: string, cwd: string, tooling: Tooling, installed: boolean): string[] {
  const uv = tooling.uv ? "uv" : uvInVenv();
  return [...changeDirectory(path, cwd), ...(installed ? [] : setupSteps(tooling)), `${uv} run ${name} dev`];
}

/** Quotes a word for the shell that people have on this system. */
export function quote(word: string): string {
  if (isWindows) return /^[\p{L}\p{N}_.:\\/@=-]+$/u.test(word) ? word : `"${word}"`;
  return /^[\p{L}\p{N}_.:/@=+-]+$/u.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** The shorter of the relative and the absolute path. */
export function pathFrom(cwd: string, path: string): string {
  const near = relative(cwd, path);
  if (near === "") return ".";
  if (isAbsolute(near) || near.startsWith(`..${sep}..`) || dirname(cwd) === cwd) return path;
  return near.startsWith("-") ? `.${sep}${near}` : near;
}

export function changeDirectory(path: string, cwd: string): string[] {
  const near = pathFrom(cwd, path);
  return near === "." ? [] : [`cd ${quote(near)}`];
}
