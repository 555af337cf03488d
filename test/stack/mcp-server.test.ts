import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { afterAll, beforeAll, describe, expect, inject, onTestFinished, test } from "vitest";
import { holdings, until } from "../../src/verify/holdings.ts";
import { environment } from "./environment.ts";
import { openBridge } from "./mcp-bridge.ts";
import { installClients } from "./mcp-clients.ts";
import { makeFolder } from "./service.ts";
import { mypyCache } from "./stacks.ts";

// `create-ai-stack mcp`, packed and installed, as clients meet it that are not ours: the Inspector, and the public
// conformance suite, which speaks HTTP alone and so meets it behind a bridge.

const APPLY: Record<string, string[]> = {
  "2025-11-25": ["server-initialize", "ping", "tools-list"],
  "2026-07-28": ["tools-list", "input-required-result-unsupported-methods"],
};

const LEFT_OUT: [scenarios: RegExp, why: string][] = [
  [/^tools-call-|^json-schema-2020-12$|^elicitation-/, "calls a tool of the suite's own"],
  [/^input-required-result-(?!unsupported-methods$)/, "calls a tool of the suite's own"],
  [/^resources-|^sep-2164-/, "there are no resources"],
  [/^prompts-/, "there are no prompts"],
  [/^caching$/, "wants resources and prompts, beside the hints of tools/list"],
  [/^completion-/, "there is nothing to complete: no prompts, no templates of resources"],
  [/^logging-/, "there is no logging, which the newest protocol gives up"],
  [/^server-s(ession-lifecycle|tateless)$|^server-sse-|^dns-rebinding-|^http-/, "is about HTTP, which is the bridge's"],
  [/^sep-2640-skills-|^tasks-/, "is an extension"],
];

let folder: string;
let command: string;
let client: Awaited<ReturnType<typeof installClients>>;
let bridge: Awaited<ReturnType<typeof openBridge>>;

beforeAll(async () => {
  folder = await makeFolder("mcp-server-");
  command = join(inject("place"), "node_modules/.bin/create-ai-stack");
  client = await installClients(folder);
  bridge = await openBridge(command, ["mcp"], { cwd: folder, env: environment() });
});

afterAll(async () => {
  const codes = await bridge?.close();
  await rm(folder, { recursive: true, force: true });
  expect(codes?.filter((code) => code !== 0)).toEqual([]);
});

describe("the Inspector", () => {
  const inspect = (...args: string[]) => client("mcp-inspector", "--cli", command, "mcp", "--allow", folder, ...args);
  const call = (tool: string, ...args: string[]) =>
    inspect("--method", "tools/call", "--tool-name", tool, ...args.flatMap((arg) => ["--tool-arg", arg]));

  test("has nothing to say of the tools", async () => {
    const { exitCode, stdout, stderr } = await inspect("--method", "tools/list", "--strict");
    expect(exitCode, stderr).toBe(0);
    const tools: { name: string }[] = JSON.parse(stdout).tools;
    expect(tools.map(({ name }) => name)).toEqual(["list", "plan", "create", "verify"]);
  });

  test("lists, plans and creates", async () => {
    const listed = JSON.parse((await call("list")).stdout).structuredContent;
    const tools = Object.fromEntries(
      listed.categories.map((category: { id: string; tools: { id: string }[] }) => [
        category.id,
        category.tools[0]?.id,
      ]),
    );
    const planned = await call("plan", `tools=${JSON.stringify(tools)}`);
    expect(JSON.parse(planned.stdout).structuredContent).toMatchObject({ name: "my-app", tools });
    const created = await call("create", "directory=my-app", "install=false", `tools=${JSON.stringify(tools)}`);
    const { directory, files } = JSON.parse(created.stdout).structuredContent;
    expect(directory).toBe(join(folder, "my-app"));
    expect(await readdir(directory)).toContain("pyproject.toml");
    expect(files).toEqual(JSON.parse(planned.stdout).structuredContent.files);
  });
});

for (const [version, scenarios] of Object.entries(APPLY)) {
  test.each(scenarios)(`conformance ${version}: %s`, async (scenario) => {
    const args = ["server", "--url", bridge.url, "--scenario", scenario, "--spec-version", version];
    const { exitCode, all } = await client("conformance", ...args);
    expect(exitCode, all).toBe(0);
    expect(all).toMatch(/Passed: \d+\/\d+, 0 failed, 0 warnings/);
    expect(all).not.toContain("SKIPPED: scenario");
  });
}

test("each other scenario for servers is left out for a reason", async () => {
  const { stdout } = await client("conformance", "list");
  const [, section = ""] = stdout.match(/^Server scenarios.*?:\n(.*?)\n\n/ms) ?? [];
  const names = [...section.matchAll(/^ {2}- (\S+)/gm)].map(([, name = ""]) => name);
  expect(names.length).toBeGreaterThan(50);
  const others = names.filter((name) => !Object.values(APPLY).flat().includes(name));
  const reasons = (name: string) => LEFT_OUT.filter(([pattern]) => pattern.test(name)).length;
  expect(others.filter((name) => reasons(name) !== 1)).toEqual([]);
  expect(LEFT_OUT.filter(([pattern]) => !others.some((name) => pattern.test(name)))).toEqual([]);
});

/** A client that allows one folder. */
async function connect(root: string, command: string, args: string[], more: Record<string, string>) {
  const client = new Client({ name: "test", version: "1.0.0" }, { capabilities: { roots: {} } });
  client.setRequestHandler("roots/list", () => ({ roots: [{ uri: pathToFileURL(root).href }] }));
  await client.connect(new StdioClientTransport({ command, args, cwd: inject("place"), env: environment(more) }));
  onTestFinished(() => client.close());
  return client;
}

test("the configuration in the README starts it", async () => {
  const readme = await readFile(join(import.meta.dirname, "../../README.md"), "utf8");
  const [, json = ""] = readme.match(/^```json\n(.*?)^```$/ms) ?? [];
  const { command, args } = JSON.parse(json).mcpServers["create-ai-stack"];
  const root = await makeFolder("root-");
  // The package is there already; none of its name is published yet.
  const reader = await connect(root, command, args, { npm_config_offline: "true" });
  const input = { directory: "my-app", install: false };
  const { structuredContent } = await reader.callTool({ name: "create", arguments: input });
  expect(structuredContent).toMatchObject({ directory: join(root, "my-app"), notes: [] });
});

describe("verify", () => {
  const project = inject("project");
  const params = (phases: string[], directory = ".") => ({ name: "verify", arguments: { directory, phases } });
  const begin = async (root: string) =>
    connect(root, command, ["mcp"], { ...mypyCache(), TMPDIR: await makeFolder("temporary-") });

  test("tells each phase as it begins, and how it went", async () => {
    const verifier = await begin(project);
    const told: (string | undefined)[] = [];
    const onprogress = ({ message }: { message?: string | undefined }) => told.push(message);
    const options = { onprogress, resetTimeoutOnProgress: true };
    const { structuredContent } = await verifier.callTool(params(["lint", "start", "ask", "stop"]), options);
    expect(structuredContent).toMatchObject({ directory: project, name: "my-app", passed: true });
    const { phases } = structuredContent as { phases: { phase: string; result: string }[] };
    expect(phases.map(({ phase, result }) => `${phase} ${result}`)).toEqual([
      ...["lint passed", "start passed", "ask passed", "stop passed"],
    ]);
    expect(told.filter((message) => !message?.includes("…"))).toEqual(["lint", "start", "ask", "stop"]);
  });

  test("takes no project that lies outside, nor above", async () => {
    const verifier = await begin(join(project, "app"));
    for (const directory of ["..", ".", project, inject("place")]) {
      const { isError, content } = await verifier.callTool(params(["lint"], directory));
      expect([isError, content]).toEqual([
        true,
        [{ type: "text", text: expect.stringMatching(/written to: .*app\./) }],
      ]);
    }
  });

  test("ends when it is cancelled, with nothing left running, and no folder", async () => {
    const temporary = await makeFolder("temporary-");
    const verifier = await connect(project, command, ["mcp"], { TMPDIR: temporary });
    const controller = new AbortController();
    const onprogress = ({ message }: { message?: string | undefined }) => message === "ask" && controller.abort();
    const called = verifier.callTool(params(["start", "ask", "kill"]), { onprogress, signal: controller.signal });
    await expect(called).rejects.toThrow();
    await until("nothing is left", 60, async () => (await readdir(temporary)).length === 0);
    expect((await holdings(undefined, [temporary])).processes).toEqual(new Map());
  });
});
