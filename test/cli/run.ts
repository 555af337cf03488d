import { cp, mkdir, mkdtemp, readdir, readFile, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execa, type Options } from "execa";
import { inject, onTestFinished } from "vitest";
import { findOnPath } from "../../src/machine.ts";

const ROOT = join(import.meta.dirname, "../..");

/** Builds the CLI with another folder of templates, into a folder of its own. */
export async function buildCli(templates: string, ...more: string[]): Promise<string> {
  const folder = await realpath(await mkdtemp(join(tmpdir(), "cli-")));
  await execa("node", [join(ROOT, "build.js"), "--templates", templates, "--out", join(folder, "dist"), ...more]);
  await cp(join(ROOT, "bin"), join(folder, "bin"), { recursive: true });
  await cp(join(ROOT, "package.json"), join(folder, "package.json"));
  return folder;
}

export function entry(cli = inject("cli")): string {
  return join(cli, "bin/create-ai-stack.js");
}

/** A folder that is gone after the test. */
export async function tempFolder(name = "place-"): Promise<string> {
  const folder = await realpath(await mkdtemp(join(tmpdir(), name)));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

export interface RunOptions {
  cwd: string;
  env?: Record<string, string>;
  cli?: string;
}

/** Runs the CLI without a terminal, as somebody whom git knows. */
export async function run(args: string[], { cwd, env = {}, cli }: RunOptions) {
  const options = { cwd, env: environment(env), extendEnv: false, reject: false, stdin: "ignore" } satisfies Options;
  const { exitCode, stdout, stderr } = await execa(process.execPath, [entry(cli), ...args], options);
  return { exitCode, stdout, stderr };
}

/** The environment of a test: no configuration of the machine's own, and no CI, which would forbid prompts. */
export function environment(more: Record<string, string> = {}): Record<string, string> {
  const { PATH = "", TMPDIR = tmpdir() } = process.env;
  return {
    PATH,
    TMPDIR,
    HOME: join(tmpdir(), "nobody"),
    GIT_CONFIG_NOSYSTEM: "1",
    GIT_AUTHOR_NAME: "Test",
    GIT_AUTHOR_EMAIL: "test@example.com",
    GIT_COMMITTER_NAME: "Test",
    GIT_COMMITTER_EMAIL: "test@example.com",
    ...more,
  };
}

/** A PATH with these commands only: a name of the machine's own, or a shell script under a name. */
export async function makePath(commands: Record<string, string | true>): Promise<string> {
  const folder = await tempFolder("path-");
  for (const [name, script] of Object.entries(commands)) {
    const real = findOnPath(name);
    if (script !== true) await writeFile(join(folder, name), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    else if (real === undefined) throw new Error(`these tests need ${name}`);
    else await symlink(real, join(folder, name));
  }
  return folder;
}

/** Every file below a folder, `.git` left out → its content. */
export async function readTree(folder: string): Promise<Record<string, string>> {
  const root = await realpath(folder);
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  const paths = entries
    .filter((found) => found.isFile())
    .map((found) => join(found.parentPath, found.name).slice(root.length + 1))
    .filter((path) => !path.startsWith(".git/"))
    .sort();
  return Object.fromEntries(
    await Promise.all(paths.map(async (path) => [path, await readFile(join(root, path), "utf8")])),
  );
}

export async function makeFolder(...path: string[]): Promise<string> {
  const folder = join(...path);
  await mkdir(folder, { recursive: true });
  return folder;
}
