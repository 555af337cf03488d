import { appendFile, cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { FIXTURE } from "../fixtures.ts";
import { buildCli, run, tempFolder } from "./run.ts";

/** The made-up templates, changed so that any store will do, with a third one, which has a file of its own. */
async function copyTemplates(folder: string): Promise<string> {
  const templates = join(folder, "templates");
  await cp(FIXTURE, templates, { recursive: true });
  await appendFile(join(templates, "store/crate/tool.yaml"), "provides: [sql]\n");
  await cp(join(templates, "store/crate"), join(templates, "store/chest"), { recursive: true });
  await writeFile(join(templates, "store/chest/python/app/store.py"), 'KIND = "chest"\n');
  await writeFile(join(templates, "store/chest/python/app/lid.py"), "OPEN = False\n");
  return templates;
}

export async function buildSwappable(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "templates-"));
  const cli = await buildCli(await copyTemplates(folder));
  await rm(folder, { recursive: true });
  return cli;
}

/** A project with a shelf, committed. */
export async function createProject(cli: string): Promise<string> {
  const cwd = await tempFolder();
  const { exitCode, stderr } = await run(["my-app", "--yes", "--no-install"], { cwd, cli });
  expect(exitCode, stderr).toBe(0);
  return join(cwd, "my-app");
}
