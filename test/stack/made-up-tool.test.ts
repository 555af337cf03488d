import { appendFile, cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, expect, test } from "vitest";
import { environment } from "./environment.ts";
import { Service } from "./service.ts";

const ROOT = join(import.meta.dirname, "../..");
const MARK = "# Seen through a spyglass.";
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "made-up-"));
});

afterAll(() => rm(folder, { recursive: true, force: true }));

test("a project with a tool that was added as a folder alone is created and runs", async () => {
  const templates = join(folder, "templates");
  await cp(join(ROOT, "templates"), templates, { recursive: true });
  const tool = join(templates, "observability/spyglass");
  await cp(join(templates, "observability/logfire"), tool, { recursive: true });
  const manifest = join(tool, "tool.yaml");
  await writeFile(manifest, (await readFile(manifest, "utf8")).replace(/^title: .*/, "title: Spyglass"));
  const module = join(tool, "python/app/observability.py");
  await appendFile(module, `${MARK}\n`);

  const options = { env: environment(), extendEnv: false };
  await execa("node", [join(ROOT, "build.js"), "--templates", templates, "--out", join(folder, "dist")], options);
  await cp(join(ROOT, "bin"), join(folder, "bin"), { recursive: true });
  await writeFile(join(folder, "package.json"), '{ "type": "module" }');
  const args = [join(folder, "bin/create-ai-stack.js"), "my-app", "--yes", "--observability", "spyglass"];
  await execa("node", [...args, "--no-git"], { ...options, cwd: folder });

  const project = join(folder, "my-app");
  expect(await readFile(join(project, "app/observability.py"), "utf8")).toContain(MARK);
  const service = await Service.start({ project, data: join(project, ".data") });
  try {
    const { result } = await service.ask("How long are invoices kept?");
    expect(result.citations.map(({ source }) => source)).toContain("sample/billing.md");
  } finally {
    await service.end();
  }
});
