import { appendFile, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import axe from "axe-core";
import { execa } from "execa";
import type { Browser } from "playwright-core";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { until } from "../../src/verify/holdings.ts";
import { Backend, tree } from "./backend.ts";
import { openBrowser } from "./browser.ts";
import { environment } from "./environment.ts";
import { installClients } from "./mcp-clients.ts";
import { SEARCH } from "./script.ts";
import { collapse, halt, makeFolder, Service } from "./service.ts";
import { mypyCache } from "./stacks.ts";

// The API layer that speaks MCP, as clients meet it that are not ours: the Inspector, and the public conformance suite.

const CONTRACTS = join(import.meta.dirname, "../contracts");
const KEPT = "How long are invoices kept?";

/** The scenarios that ask nothing of a server but to be one; the others call tools of a fixture. */
const SCENARIOS: Record<string, string[]> = {
  "2025-11-25": ["server-initialize", "ping", "logging-set-level", "tools-list", "resources-list", "prompts-list"],
  "2026-07-28": ["tools-list", "resources-list", "prompts-list", "sep-2164-resource-not-found", "caching"],
};
const BOTH = ["dns-rebinding-protection", "server-sse-multiple-streams"];
SCENARIOS["2026-07-28"]?.push("http-header-validation");

let folder: string;
let project: string;
let client: Awaited<ReturnType<typeof installClients>>;
let backend: Backend;
let service: Service;

beforeAll(async () => {
  folder = await makeFolder("mcp-");
  project = join(folder, "my-app");
  const options = { cwd: folder, env: environment(), extendEnv: false };
  const create = join(inject("place"), "node_modules/.bin/create-ai-stack");
  await execa(create, [project, "--yes", "--no-git", "--api", "fastmcp"], options);
  client = await installClients(folder);
  backend = await Backend.start(project, "logfire");
  const env = { LOGFIRE_TOKEN: "token-4bd1", LOGFIRE_BASE_URL: backend.url };
  service = await Service.start({ project, data: join(folder, "data"), env });
});

afterAll(async () => {
  await service?.end();
  await backend?.stop();
  await rm(folder, { recursive: true, force: true });
});

function run(program: string, ...args: string[]) {
  const options = { cwd: project, env: environment(mypyCache()), extendEnv: false, reject: false, all: true } as const;
  return execa(program, args, options);
}

function inspect(...args: string[]) {
  return client("mcp-inspector", "--cli", `${service.url}/mcp`, ...args);
}

function call(tool: string, argument: string) {
  return inspect("--method", "tools/call", "--tool-name", tool, "--tool-arg", argument);
}

for (const args of [
  ["mypy", `${CONTRACTS}/api`],
  [
    "pytest",
    "-c",
    "pyproject.toml",
    "--rootdir",
    ".",
    "-p",
    "tests.conftest",
    "-p",
    "no:cacheprovider",
    `${CONTRACTS}/api`,
  ],
]) {
  test(`uv run ${args[0]} ${args[1] ?? ""} passes`, async () => {
    const { exitCode, all } = await run("uv", "run", ...args);
    expect(exitCode, all).toBe(0);
    if (args[0] === "pytest") expect(all?.split("\n").at(-1)).toMatch(/^=* ?\d+ passed in/);
  });
}

describe("the Inspector", () => {
  test("has nothing to say of the tools", async () => {
    const { exitCode, stdout, stderr } = await inspect("--method", "tools/list", "--strict");
    expect(exitCode, stderr).toBe(0);
    const tools: { name: string; annotations: object; outputSchema: object }[] = JSON.parse(stdout).tools;
    expect(tools.map(({ name }) => name)).toEqual(
      expect.arrayContaining(["ask", "search_documents", "add_document", "get_run", "cancel_run"]),
    );
    for (const { annotations, outputSchema } of tools) {
      expect(annotations).toHaveProperty("readOnlyHint");
      expect(outputSchema).toMatchObject({ type: "object" });
    }
  });

  test("asks, and reads what was quoted and the run", async () => {
    const { stdout } = await call("ask", `question=${KEPT}`);
    const { structuredContent: asked } = JSON.parse(stdout);
    expect(asked.result.citations[0].source).toBe("sample/billing.md");
    const read = async (uri: string) => JSON.parse((await inspect("--method", "resources/read", "--uri", uri)).stdout);
    const document = await read("app://documents/sample/billing.md");
    expect(collapse(document.contents[0].text)).toContain("kept for ten years");
    const stored = await read(`app://runs/${asked.id}`);
    expect(JSON.parse(stored.contents[0].text)).toEqual(asked);
  });

  test("is told what was wrong", async () => {
    const { exitCode, all } = await call("get_run", "run_id=none");
    expect(exitCode).not.toBe(0);
    expect(all).toContain("There is no run none.");
  });

  test("starts it and speaks over stdio, by the command of the README", async () => {
    const command = ["uv", "--directory", project, "run", "my-app", "mcp"];
    const args = ["--method", "tools/call", "--tool-name", "ask", "--tool-arg", `question=${KEPT}`];
    const { exitCode, stdout, stderr } = await client("mcp-inspector", "--cli", ...command, ...args);
    expect(exitCode, stderr).toBe(0);
    expect(JSON.parse(stdout).structuredContent.status).toBe("succeeded");
  });
});

test("a call is one trace with the run that it starts", async () => {
  const { stdout } = await call("ask", `question=${KEPT}`);
  const { id, trace_url: url } = JSON.parse(stdout).structuredContent;
  const spans = await backend.trace(id, ["question", "tools/call ask"]);
  const chat = ["chat extractive"];
  const run = { question: [{ "llm 1": chat }, SEARCH, { "llm 2": chat }] };
  expect(tree(spans)).toEqual([{ "tools/call ask": [{ "start question": [run] }] }]);
  expect(url).toBe(`${backend.url}/team/demo?q=trace_id%3D%27${spans[0]?.trace}%27`);
});

for (const [version, scenarios] of Object.entries(SCENARIOS)) {
  test.each([...scenarios, ...BOTH])(`conformance ${version}: %s`, async (scenario) => {
    const args = ["server", "--url", `${service.url}/mcp`, "--scenario", scenario, "--spec-version", version];
    const { exitCode, all } = await client("conformance", ...args);
    expect(exitCode, all).toBe(0);
    expect(all).toMatch(/Passed: \d+\/\d+, 0 failed/);
    expect(all).not.toContain("SKIPPED: scenario");
  });
}

describe("what is wrong", () => {
  const message = (method: string, params: object) => JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
  const tool = (name: string, args: unknown) => message("tools/call", { name, arguments: args });
  const resource = (uri: string) => message("resources/read", { uri });
  const ask = (args: string) => tool("ask", "ARGUMENTS").replace('"ARGUMENTS"', args);
  const post = (body: string | Buffer) =>
    fetch(`${service.url}/mcp`, {
      method: "POST",
      body,
      headers: { Accept: "application/json, text/event-stream", "Content-Type": "application/json" },
    });

  test.each<[what: string, body: string | Buffer, status: number, told: RegExp]>([
    ["nothing", "", 400, /Parse error/],
    ["half of a message", tool("ask", {}).slice(0, -1), 400, /Parse error/],
    ["a list of messages", `[${tool("list_runs", {})}]`, 400, /Validation error/],
    ["what is no message", "null", 400, /Validation error/],
    ["a depth of 100,000", `${"[".repeat(100_000)}${"]".repeat(100_000)}`, 400, /Parse error/],
    ["bytes that are no text", Buffer.from(ask('{"question": "\xff"}'), "latin1"), 400, /Parse error/],
    ["half of a character", ask('{"question": "\\ud800"}'), 400, /Parse error/],
    [
      "5 MB, more than FastMCP takes",
      tool("add_document", { source: "a.md", text: "x".repeat(5e6) }),
      413,
      /too large/,
    ],
    [
      "11 MB, more than the setting",
      tool("add_document", { source: "a.md", text: "x".repeat(11e6) }),
      413,
      /MAX_UPLOAD/,
    ],
    ["an unknown method", message("no/method", {}), 200, /Method not found/],
    ["an unknown tool", tool("no_tool", {}), 200, /Unknown tool: 'no_tool'/],
    ["arguments that are a list", tool("ask", []), 200, /Invalid request parameters/],
    ["an argument of another type", tool("ask", { question: 7 }), 200, /question.* valid string/],
    ["an unknown argument", tool("ask", { question: "Who?", no: 1 }), 200, /no.* Unexpected keyword argument/],
    ["a question with a NUL", tool("ask", { question: "a\0b" }), 200, /question.* should match pattern/],
    ["a number that is none", ask('{"question": "Who?", "wait": NaN}'), 200, /wait.* less than or equal to 300/],
    ["a limit below zero", tool("list_runs", { limit: -1 }), 200, /limit.* greater than or equal to 1/],
    ["an unknown run", tool("resume_run", { run_id: "' OR 1=1" }), 200, /There is no run ' OR 1=1/],
    ["an unknown document", resource("app://documents/none"), 200, /There is no document none/],
    ["a document with a NUL", resource("app://documents/%00"), 200, /not found/],
    ["a resource of another kind", resource("file:///etc/passwd"), 200, /not found/],
  ])("is told: %s", async (_, body, status, told) => {
    const response = await post(body);
    const text = await response.text();
    expect([response.status, text.replaceAll("\\n", " ")]).toEqual([status, expect.stringMatching(told)]);
    expect(text).not.toContain("Traceback");
    expect((await service.request("GET", "/readyz")).status).toBe(200);
  });

  test("is told by all tools and resources: a database that hangs", async () => {
    const goOn = await halt(join(folder, "data"));
    try {
      const bodies = [
        tool("ask", { question: KEPT }),
        tool("search_documents", { query: "invoices" }),
        tool("add_document", { source: "a.md", text: "x" }),
        tool("list_runs", {}),
        ...["get_run", "cancel_run", "resume_run"].map((name) => tool(name, { run_id: "1" })),
        ...["documents", "runs", "runs/1"].map((path) => resource(`app://${path}`)),
      ];
      const told = await Promise.all(bodies.map(async (body) => (await post(body)).text()));
      for (const text of told) expect(text).toContain("The database does not answer. Try again later.");
      expect((await service.request("GET", "/readyz")).status).toBe(503);
    } finally {
      goOn();
    }
    await until("it is ready again", 30, () => service.isReady());
    expect(await (await post(tool("ask", { question: KEPT }))).text()).toContain('"status":"succeeded"');
    expect(service.output).not.toContain("Traceback");
  });
});

describe("the page", () => {
  let browser: Browser;

  beforeAll(async () => {
    browser = await openBrowser();
  });

  afterAll(() => browser?.close());

  test("gives connection details to copy, and shows a run with its steps", async () => {
    const page = await browser.newPage({ permissions: ["clipboard-read", "clipboard-write"] });
    const complaints: string[] = [];
    page.on("pageerror", (error) => complaints.push(`${error}`));
    await page.goto(service.url);
    await page.getByRole("button", { name: /^Copy: Address/ }).click();
    await page.getByText("Copied.").waitFor();
    expect(await page.evaluate("navigator.clipboard.readText()")).toBe(`${service.url}/mcp`);

    await call("ask", "question=Who pays?");
    await page.locator("summary", { hasText: "Who pays?" }).click();
    await page.locator("li", { hasText: /^search_documents 1.1 · \d/ }).waitFor();
    for (const colorScheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme });
      const { violations } = await page.evaluate<{ violations: { id: string; nodes: { html: string }[] }[] }>(
        `${axe.source}; axe.run()`,
      );
      expect(violations.map(({ id, nodes }) => `${colorScheme}: ${id} ${nodes[0]?.html}`)).toEqual([]);
    }
    expect(complaints).toEqual([]);
  });
});

test("what the README adds is served, and passes all checks", async () => {
  const readme = await readFile(join(project, "README.md"), "utf8");
  const blocks = [...readme.matchAll(/append (?:it )?to\s+`(app\/\w+\.py)`:\n\n```python\n(.*?)```/gs)];
  for (const [, file = "", code = ""] of blocks) await appendFile(join(project, file), `\n\n${code}`);
  for (const args of [["ruff", "check"], ["ruff", "format", "--check"], ["mypy"]]) {
    const { exitCode, all } = await run("uv", "run", ...args);
    expect(exitCode, all).toBe(0);
  }
  const made = await until("the new tool", 60, async () => {
    const { exitCode, stdout } = await call("make_outline", 'outline={"source": "headings.md"}');
    return exitCode === 0 && JSON.parse(stdout).structuredContent;
  });
  expect(made).toMatchObject({ status: "succeeded", result: { source: "headings.md" } });
});
