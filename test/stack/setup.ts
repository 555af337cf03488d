import { mkdtemp, realpath, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execa } from "execa";
import type { TestProject } from "vitest/node";
import { holdings } from "../../src/verify/holdings.ts";
import { environment } from "./environment.ts";
import { readmeCommand } from "./readme.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** The folder that the packed generator is installed in, with node_modules/.bin. */
    place: string;
    /** A project that it made there, installed by uv. */
    project: string;
    /** What it printed. */
    created: string;
  }
}

const ROOT = join(import.meta.dirname, "../..");

/** Goes the way of a user: the package from the registry (here: packed), then a project by its command. */
export default async function setup({ provide }: TestProject): Promise<() => Promise<void>> {
  // The spaces and letters are on purpose.
  const place = await realpath(await mkdtemp(join(tmpdir(), "Stack für alle ")));
  const env = environment();
  const options = { cwd: place, env, extendEnv: false };
  const packed = await execa("npm", ["pack", "--ignore-scripts", "--json", "--pack-destination", place], {
    ...options,
    cwd: ROOT,
  });
  const [{ filename }] = JSON.parse(packed.stdout);
  // Offline: it has no dependency, so there is nothing to fetch.
  await execa("npm", ["install", "--offline", `./${filename}`], options);
  const command = await readmeCommand("npx create-ai-stack");
  const { stdout } = await execa("sh", ["-c", command], { ...options, env: { ...env, npm_config_offline: "true" } });
  provide("place", place);
  provide("project", join(place, "my-app"));
  provide("created", stdout);
  return async () => {
    const { processes } = await holdings(undefined, [place]);
    for (const pid of processes.keys()) process.kill(pid, "SIGKILL");
    await rm(place, { recursive: true, force: true });
    if (processes.size === 0) return;
    process.exitCode = 1; // vitest only prints what is thrown here
    throw new Error(`the tests left running:\n${[...processes.values()].join("\n")}`);
  };
}
