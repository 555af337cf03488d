// Puts uv where npm's scripts find it, if the machine has none: the tests need it, and Python is enough to get it.
import { execFileSync, spawnSync } from "node:child_process";
import { symlinkSync } from "node:fs";
import { join } from "node:path";

if (spawnSync("uv", ["--version"]).status !== 0) {
  const modules = join(import.meta.dirname, "../node_modules");
  const venv = join(modules, ".cache/uv");
  execFileSync("python3", ["-m", "venv", venv], { stdio: "inherit" });
  execFileSync(join(venv, "bin/python"), ["-m", "pip", "install", "--quiet", "uv"], { stdio: "inherit" });
  for (const name of ["uv", "uvx"]) symlinkSync(join(venv, "bin", name), join(modules, ".bin", name));
}
