import { rm } from "node:fs/promises";
import type { TestProject } from "vitest/node";
import { FIXTURE } from "../fixtures.ts";
import { buildCli } from "./run.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** A folder with the CLI, built with the made-up catalogue. */
    cli: string;
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const folder = await buildCli(FIXTURE);
  project.provide("cli", folder);
  return () => rm(folder, { recursive: true });
}
