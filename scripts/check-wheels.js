import { join } from "node:path";
import { execa } from "execa";

// Checks that a default project installs from wheels alone, on each system and Python. Needs the build and uv.

const PYTHONS = ["3.11", "3.12", "3.13", "3.14"];

/** uv's platform → the package without a wheel there, as docs/portability.md says. */
const PLATFORMS = {
  "x86_64-manylinux_2_28": null,
  "aarch64-manylinux_2_28": null,
  "aarch64-apple-darwin": null,
  "x86_64-pc-windows-msvc": null,
  "x86_64-apple-darwin": "onnxruntime",
  "aarch64-pc-windows-msvc": "embedded-postgres",
  "x86_64-unknown-linux-musl": "embedded-postgres",
};

const cli = join(import.meta.dirname, "../bin/create-ai-stack.js");
const { stdout } = await execa(process.execPath, [cli, "wheels", "--yes", "--dry-run", "--json"]);
const project = JSON.parse(stdout);
const input = [...project.dependencies, ...project.devDependencies].map(({ requirement }) => requirement).join("\n");

for (const [platform, missing] of Object.entries(PLATFORMS)) {
  const found = await Promise.all(PYTHONS.map((python) => resolve(platform, python)));
  const expected = missing ?? "";
  const wrong = found.filter(({ lacks }) => lacks !== expected);
  for (const { python, error } of wrong)
    process.stdout.write(`${platform}, Python ${python}: ${error || "resolves"}\n`);
  if (wrong.length > 0) process.exitCode = 1;
  else process.stdout.write(`${platform}: ${missing === null ? "all from wheels" : `no wheel of ${missing}`}\n`);
}

/** Resolves, and names the package that has no wheel, if it fails for that. */
async function resolve(/** @type {string} */ platform, /** @type {string} */ python) {
  const target = ["--python-platform", platform, "--python-version", python];
  // The oldest macOS that onnxruntime has wheels for.
  const options = { input, env: { MACOSX_DEPLOYMENT_TARGET: "14.0" }, reject: false };
  const { failed, stderr } = await execa("uv", ["pip", "compile", "-", "--only-binary", ":all:", ...target], options);
  const lacks = failed ? (stderr.match(/Because ([\w.-]+?)[<>=]\S* has no wheels/)?.[1] ?? "?") : "";
  return { python, lacks, error: failed ? stderr : "" };
}
