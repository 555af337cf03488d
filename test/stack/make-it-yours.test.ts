import { appendFile, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { until } from "../../src/verify/holdings.ts";
import { ModelServer } from "../../src/verify/model-server.ts";
import { environment } from "./environment.ts";
import { makeFolder, type Run, Service, serveDatabase } from "./service.ts";
import { mypyCache } from "./stacks.ts";

// What the README of a project tells its owner to do, done word for word, one after the other.

const TOOL = "list_documents";
const SECTION = "## Make it yours";
let folder: string;
let project: string;
let readme: string;

beforeAll(async () => {
  folder = await makeFolder("yours-");
  project = join(folder, "my-app");
  const create = join(inject("place"), "node_modules/.bin/create-ai-stack");
  await execa(create, [project, "--yes", "--no-git"], { cwd: folder, env: environment(), extendEnv: false });
  readme = await readFile(join(project, "README.md"), "utf8");
});

afterAll(() => rm(folder, { recursive: true, force: true }));

/** The blocks of Python that are to be appended, by file. */
function additions(): [file: string, code: string][] {
  const blocks = [...readme.matchAll(/append (?:it )?to\s+`(app\/\w+\.py)`:\n\n```python\n(.*?)```/gs)];
  return blocks.map(([, file = "", code = ""]) => [file, code]);
}

/** The indented lines of the section, block by block. */
function commands(): string[] {
  const section =
    readme
      .slice(readme.indexOf(SECTION))
      .split("\n## ")[0]
      ?.replace(/^```.*?^```$/gms, "") ?? "";
  return [...section.matchAll(/(?:^ {4}.+\n)+/gm)].map(([block]) => block.replace(/^ {4}/gm, "").trim());
}

async function run(...command: string[]): Promise<void> {
  const options = { cwd: project, env: environment(mypyCache()), extendEnv: false, reject: false, all: true } as const;
  const { exitCode, all } = await execa("uv", ["run", ...command], options);
  expect(exitCode, all).toBe(0);
}

test("the sample goes, and a tool, a workflow and a route come, in few lines; all checks still pass", async () => {
  const [, folders = ""] = readme.match(/ delete the folders (.+)\.$/m) ?? [];
  for (const [, name = ""] of folders.matchAll(/`(.+?)`/g))
    await rm(join(project, name), { recursive: true, force: true });
  expect(await readdir(join(project, "data")).catch(() => [])).toEqual([]);

  const files = additions();
  expect(files.map(([file]) => file).sort()).toEqual(["app/api.py", "app/tools.py", "app/workflows.py"]);
  const length = Object.fromEntries(files.map(([file, code]) => [file, code.trim().split("\n").length]));
  expect(length["app/tools.py"]).toBeLessThanOrEqual(15);
  expect((length["app/workflows.py"] ?? 0) + (length["app/api.py"] ?? 0)).toBeLessThanOrEqual(30);
  for (const [file, code] of files) await appendFile(join(project, file), `\n\n${code}`);

  await run("ruff", "check");
  await run("ruff", "format", "--check");
  await run("mypy");
  await run("pytest", "-q");
});

test("what is embedded gives way: database and model by three lines of .env, and traces go to Logfire", async () => {
  const [settings = ""] = commands();
  expect(settings.split("\n").map((line) => line.split("=")[0])).toEqual(["DATABASE_URL", "LLM_MODEL", "LLM_API_KEY"]);
  const database = await serveDatabase(project, join(folder, "database"));
  const model = await ModelServer.start((call) => {
    if (call.turn === 1) return { tool: TOOL, arguments: { beginning: "g" } };
    return { answer: { answered: true, text: call.messages.at(-1)?.content ?? "", quotes: [] } };
  });
  const authorizations: (string | undefined)[] = [];
  const logfire = createServer((request, response) => {
    authorizations.push(request.headers.authorization);
    request.resume().on("end", () => response.end("{}"));
  });
  await new Promise<void>((resolve) => logfire.listen(0, "127.0.0.1", resolve));
  // The servers are those of this test; all else is as the README has it.
  await writeFile(join(project, ".env"), settings.replace(/(?<=DATABASE_URL=).*/, database.url));
  const { port } = logfire.address() as AddressInfo;
  const traces = { LOGFIRE_TOKEN: "your token", LOGFIRE_BASE_URL: `http://127.0.0.1:${port}` };
  const env = { LLM_BASE_URL: model.env["LLM_BASE_URL"], ...traces };
  const data = join(folder, "kept");
  const service = await Service.start({ project, data, command: ["uv", "run", "my-app", "serve"], env });
  try {
    expect(await readdir(data).catch(() => [])).toEqual([]);
    await service.put("gate.md", "# Gate\n\nThe gate is green.\n");

    const { steps, result } = await service.ask("Which documents are there?");
    expect(result.text).toBe('["gate.md"]');
    expect(steps.map(({ name }) => name)).toContain(`${TOOL} 1.1`);
    expect(model.calls.map(({ headers }) => headers.authorization)).toContain("Bearer your key");

    const outline = await service.call<Run<{ source: string }>>("POST", "/outlines", {});
    expect(outline).toMatchObject({ status: "succeeded", kind: "outline", result: { source: "outline.md" } });
    expect(outline.steps.map(({ name }) => name)).toContain("read gate.md");
    await until("the token was sent", 20, async () => authorizations.includes("your token"));
  } finally {
    await service.end();
    await database.stop();
    await model.stop();
    logfire.closeAllConnections();
    await new Promise((resolve) => logfire.close(resolve));
  }
});
