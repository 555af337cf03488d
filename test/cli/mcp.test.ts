import { existsSync } from "node:fs";
import { readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Client, type Progress, type ProgressCallback } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { execa } from "execa";
import { describe, expect, onTestFinished, test } from "vitest";
import { findOnPath } from "../../src/machine.ts";
import { entry, environment, makeFolder, makePath, readTree, run, tempFolder } from "./run.ts";

// As clients meet it: the SDK's own, which speaks both protocols, and lines as they come.

const QUICK = { install: false, git: false };

interface Server {
  /** What the client says of its roots; undefined: that it has none to name. */
  roots?: () => string[];
  allow?: string[];
  env?: Record<string, string>;
  /** The protocol. */
  revision?: string;
}

async function connect({ roots, allow = [], env = {}, revision = "2025-11-25" }: Server) {
  const options = {
    capabilities: roots === undefined ? {} : { roots: { listChanged: true } },
    ...(revision === "2025-11-25" ? {} : { versionNegotiation: { mode: "auto" as const } }),
  };
  const client = new Client({ name: "test", version: "1.0.0" }, options);
  if (roots !== undefined) {
    client.setRequestHandler("roots/list", () => ({ roots: roots().map((uri) => ({ uri })) }));
  }
  const args = [entry(), "mcp", ...allow.flatMap((folder) => ["--allow", folder])];
  const started = { command: process.execPath, args, env: environment(env), cwd: await tempFolder("started-") };
  const transport = new StdioClientTransport({ ...started, stderr: "ignore" });
  await client.connect(transport);
  onTestFinished(() => client.close());
  expect(client.getNegotiatedProtocolVersion()).toBe(revision);
  const call = async (name: string, input = {}, onprogress?: ProgressCallback) => {
    const result = await client.callTool({ name, arguments: input }, onprogress === undefined ? {} : { onprogress });
    const text = result.content.map((block) => (block.type === "text" ? block.text : block.type)).join("\n");
    return { ...result, text, data: result.structuredContent as Record<string, unknown> };
  };
  return { client, transport, call };
}

/** Lines of a client without an SDK, which allows one directory by --allow. */
function speak(allow: string, env: Record<string, string> = {}) {
  const options = { env: environment(env), extendEnv: false, reject: false, cleanup: true } as const;
  const server = execa(process.execPath, [entry(), "mcp", "--allow", allow], options);
  const send = (message: object) => server.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
  const params = { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "test", version: "1.0.0" } };
  send({ id: 1, method: "initialize", params });
  send({ method: "notifications/initialized" });
  const call = (id: number, name: string, input: object, meta = {}) =>
    send({ id, method: "tools/call", params: { name, arguments: input, _meta: meta } });
  return { server, send, call };
}

function uri(path: string): string {
  return pathToFileURL(path).href;
}

async function until(happens: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await happens())) await new Promise((resolve) => setTimeout(resolve, 20));
}

async function printed(args: string[], cwd: string): Promise<Record<string, unknown>> {
  const { ok, ...printed } = JSON.parse((await run([...args, "--json"], { cwd })).stdout);
  expect(ok).toBe(true);
  return printed;
}

describe.each(["2025-11-25", "2026-07-28"])("by the protocol of %s", (revision) => {
  test("the tools say what they do, and what they take and give", async () => {
    const { client } = await connect({ revision });
    const { tools } = await client.listTools();
    expect(tools.map(({ name }) => name)).toEqual(["list", "plan", "create", "verify"]);
    for (const { title, description, annotations, inputSchema, outputSchema } of tools) {
      expect([title, description]).toEqual([expect.stringMatching(/\w/), expect.stringMatching(/\w/)]);
      expect(Object.values(annotations ?? {})).toEqual(Array(4).fill(expect.any(Boolean)));
      expect(inputSchema).toMatchObject({ type: "object", additionalProperties: false });
      expect(outputSchema).toMatchObject({ type: "object" });
    }
    const [list, plan, create] = tools.map(({ annotations }) => annotations);
    expect([list?.readOnlyHint, plan?.readOnlyHint, create?.readOnlyHint]).toEqual([true, true, false]);
    const choices = { store: { enum: ["shelf", "crate"], default: "shelf" }, view: { enum: ["window"] } };
    for (const { inputSchema } of tools.slice(1, 3)) {
      expect(inputSchema.properties).toMatchObject({ tools: { properties: choices } });
    }
  });

  test("list and plan give what the commands print", async () => {
    const { call } = await connect({ revision });
    const cwd = await tempFolder();
    const listed = await call("list");
    expect(listed.data).toEqual(await printed(["list"], cwd));
    expect(JSON.parse(listed.text)).toEqual(listed.data);
    const { dryRun, directory, ...project } = await printed(["a-b", "--store", "shelf", "--yes", "--dry-run"], cwd);
    expect([dryRun, directory]).toEqual([true, join(cwd, "a-b")]);
    const { nextSteps, recreate, ...planned } = (await call("plan", { name: "a-b", tools: { store: "shelf" } })).data;
    expect({ ...planned, recreate: project["recreate"] }).toEqual(project);
    expect([nextSteps, recreate]).toEqual([expect.any(Array), expect.stringMatching(/^npx .* a-b --store shelf /)]);
    expect(await readdir(cwd)).toEqual([]);
  });

  test("create makes below a root what the command makes, and gives what it prints", async () => {
    const [cwd, place] = [await tempFolder(), await tempFolder("a place für alle 100% ")];
    const { call } = await connect({ revision, roots: () => [uri(place)] });
    const { text, data } = await call("create", { directory: "services/my-app", install: false });
    const { dryRun, ...project } = await printed(["my-app", "--yes", "--no-install"], cwd);
    expect(dryRun).toBe(false);
    const directory = join(place, "services/my-app");
    const { nextSteps, recreate } = data;
    expect({ ...data, nextSteps, recreate }).toEqual({ ...project, directory, nextSteps, recreate });
    expect(nextSteps).toEqual([`cd '${directory}'`, ...(project["nextSteps"] as string[]).slice(1)]);
    expect(JSON.parse(text)).toEqual(data);
    expect(await readTree(directory)).toEqual(await readTree(join(cwd, "my-app")));
    const { stdout } = await execa("git", ["log", "--format=%s"], { cwd: directory });
    expect(stdout).toBe("Initial commit");
  });

  test("what the user can mend is the result of a tool", async () => {
    const place = await tempFolder();
    const { call } = await connect({ revision, roots: () => [uri(place)] });
    await makeFolder(place, "full-app", "src");
    for (const [name, input, told] of [
      ["plan", { name: "My App" }, /"My App" cannot be the name of the project: .*\n.*another/],
      ["plan", { tools: { store: "barrel" } }, /tools\.store.*"shelf"\|"crate"/],
      ["plan", { tools: { stores: "shelf" } }, /stores/],
      ["plan", { tools: { store: "crate" } }, /needs "sql", which none of .* provides\.\nTake --store shelf\./],
      ["plan", { nam: "a-b" }, /nam/],
      ["create", {}, /directory/],
      ["verify", { directory: "full-app" }, /There is no ai-stack\.json in .*full-app or above/],
      ["verify", { directory: "none" }, /There is no ai-stack\.json in .*none or above/],
      ["verify", { directory: "../elsewhere" }, /that may be written to/],
      ["verify", { directory: "full-app", phases: ["dance"] }, /phases/],
      ["create", { ...QUICK, directory: "full-app" }, /is not empty: it has src\.\nChoose/],
      ["create", { ...QUICK, directory: "My App" }, /"My App" cannot be the name.*\nTry .+\/my-app\./],
    ] as const) {
      const { isError, text, structuredContent } = await call(name, input);
      expect([isError, text, structuredContent]).toEqual([true, expect.stringMatching(told), undefined]);
    }
    expect(await readdir(place)).toEqual(["full-app"]);
  });

  test("verify takes no project of which uv would write elsewhere, nor phases without those before", async () => {
    const [place, elsewhere] = [await tempFolder(), await tempFolder()];
    const { call } = await connect({ revision, roots: () => [uri(place)], env: { PATH: await makePath({}) } });
    await call("create", { ...QUICK, directory: "my-app" });
    const verify = async (phases: string[]) => (await call("verify", { directory: "my-app", phases })).text;
    expect(await verify(["kill"])).toBe("kill goes on from start and ask.\nTake: start,ask,kill");
    await symlink(elsewhere, join(place, "my-app/.venv"));
    expect(await verify(["install"])).toContain(`my-app/.venv leads to ${elsewhere}, which is not below a directory`);
    expect(await readdir(elsewhere)).toEqual([]);
  });

  test("the roots are asked for anew with each call", async () => {
    const [first, second] = [await tempFolder(), await tempFolder()];
    let roots = [uri(first)];
    const { call } = await connect({ revision, roots: () => roots });
    const input = { ...QUICK, directory: join(second, "my-app") };
    expect((await call("create", input)).text).toContain(`not below a directory that may be written to: ${first}.`);
    roots = [uri(second)];
    expect((await call("create", input)).isError).toBeUndefined();
    expect([await readdir(first), await readdir(second)]).toEqual([[], ["my-app"]]);
  });
});

describe("create writes below the client's roots alone", () => {
  test.each<[what: string, directory: (place: string) => string]>([
    ["a path that leads up", () => "../elsewhere/my-app"],
    ["a path that leads up and down", () => "inner/../../elsewhere/my-app"],
    ["an absolute path", (place) => join(place, "elsewhere/my-app")],
    ["a file URI", (place) => uri(join(place, "elsewhere/my-app"))],
    ["a path that only begins like the root", (place) => join(place, "root-app")],
    ["the root itself", () => "."],
    ["nothing", () => ""],
    ["a link that leads out", () => "out/my-app"],
    ["a link to a link that leads out", () => "out-again/my-app"],
    ["a link that leads out, as the target", () => "out"],
    ["a link that leads nowhere", () => "nowhere/my-app"],
    ["a link that leads to itself", () => "circle/my-app"],
    ["a NUL", () => "my\0app"],
    ["a URI of something else", () => "file://host.example/share/my-app"],
  ])("%s is refused, and nothing is written", async (_, directory) => {
    const place = await tempFolder();
    const root = await makeFolder(place, "root");
    await makeFolder(place, "elsewhere");
    await makeFolder(root, "inner");
    await symlink(join(place, "elsewhere"), join(root, "out"));
    await symlink("out", join(root, "out-again"));
    await symlink(join(place, "elsewhere/not-yet"), join(root, "nowhere"));
    await symlink("circle", join(root, "circle"));
    const before = await readdir(place, { recursive: true });
    const { call } = await connect({ roots: () => [uri(root)] });
    const { isError, text } = await call("create", { ...QUICK, directory: directory(place) });
    expect([isError, text]).toEqual([true, expect.stringContaining(`that may be written to: ${root}.`)]);
    expect(await readdir(place, { recursive: true })).toEqual(before);
  });

  test("a path that is refused is named with where it leads, and what is allowed", async () => {
    const [place, elsewhere] = [await tempFolder(), await tempFolder()];
    await symlink(elsewhere, join(place, "out"));
    const { call } = await connect({ roots: () => [uri(place)] });
    const { text } = await call("create", { ...QUICK, directory: "out/my-app" });
    expect(text).toBe(
      `${place}/out/my-app leads to ${elsewhere}/my-app, which is not below a directory that may be written to: ${place}.\nGive a path below one of them.`,
    );
  });

  test("links within, a root that is a link, and every root of several are followed", async () => {
    const [place, other] = [await tempFolder(), await tempFolder()];
    const root = await makeFolder(place, "real");
    await makeFolder(root, "inner");
    await symlink("inner", join(root, "within"));
    await symlink(root, join(place, "linked"));
    const { call } = await connect({ roots: () => [uri(join(place, "linked")), uri(other)] });
    for (const directory of ["within/a-a", join(root, "b-b"), join(place, "linked/c-c"), uri(join(other, "d d/d-d"))]) {
      expect(await call("create", { ...QUICK, directory })).not.toHaveProperty("isError");
    }
    expect(await readdir(join(root, "inner"))).toEqual(["a-a"]);
    expect((await readdir(root)).sort()).toEqual(["b-b", "c-c", "inner", "within"]);
    expect(await readdir(other)).toEqual(["d d"]);
  });

  test.each([
    ["2025-11-25", []],
    ["2026-07-28", ["https://example.com/", "x"]],
  ])("roots that are no directories here allow nothing, by the protocol of %s", async (revision, more) => {
    const place = await tempFolder();
    await writeFile(join(place, "file"), "");
    const others = ["file", "none"].map((name) => uri(join(place, name)));
    const roots = [...others, "file://host.example/tmp", `${uri(place)}?x`, `${uri(place)}#x`, "file://%", ...more];
    const { call } = await connect({ revision, roots: () => roots });
    const { isError, text } = await call("create", { ...QUICK, directory: join(place, "my-app") });
    expect([isError, text]).toEqual([true, expect.stringContaining(`the client has the roots ${roots.join(", ")}.`)]);
    expect(await readdir(place)).toEqual(["file"]);
  });

  test("roots that the protocol of 2025-11-25 forbids are refused with all others", async () => {
    const place = await tempFolder();
    const { call } = await connect({ roots: () => [uri(place), "https://example.com/"] });
    const { isError, text } = await call("create", { ...QUICK, directory: join(place, "my-app") });
    expect([isError, text]).toEqual([true, expect.stringMatching(/roots.*must start with .*file:/s)]);
    expect(await readdir(place)).toEqual([]);
  });

  test("a client that names none is told how to allow a directory", async () => {
    const place = await tempFolder();
    for (const roots of [undefined, () => []]) {
      const { call } = await connect(roots === undefined ? {} : { roots });
      const { isError, text } = await call("create", { ...QUICK, directory: join(place, "my-app") });
      expect([isError, text]).toEqual([true, expect.stringContaining("create-ai-stack mcp --allow <directory>")]);
    }
    expect(await readdir(place)).toEqual([]);
  });
});

describe("--allow", () => {
  test.each<[what: string, names: Server]>([
    ["has no roots to name", {}],
    ["names none", { roots: () => [] }],
  ])("allows a directory where the client %s", async (_, names) => {
    const [first, second] = [await tempFolder(), await tempFolder()];
    const { call } = await connect({ ...names, allow: [first, second] });
    expect((await call("create", { ...QUICK, directory: "my-app" })).data["directory"]).toBe(join(first, "my-app"));
    const input = { ...QUICK, directory: join(second, "my-app") };
    expect((await call("create", input)).data["directory"]).toBe(join(second, "my-app"));
    const refused = await call("create", { ...QUICK, directory: "../my-app" });
    expect(refused.text).toContain(`that may be written to: ${first}, ${second}.`);
  });

  test("narrows the roots of a client that names some", async () => {
    const place = await tempFolder();
    const [inner, other] = [await makeFolder(place, "inner"), await tempFolder()];
    const { call } = await connect({ roots: () => [uri(place)], allow: [inner, other] });
    expect((await call("create", { ...QUICK, directory: "my-app" })).data["directory"]).toBe(join(inner, "my-app"));
    for (const folder of [place, other]) {
      const { text } = await call("create", { ...QUICK, directory: join(folder, "a-b") });
      expect(text).toContain(`that may be written to: ${inner}.`);
    }
    const apart = await connect({ roots: () => [uri(place)], allow: [other] });
    const { text } = await apart.call("create", { ...QUICK, directory: "my-app" });
    expect(text).toContain(`the client has the roots ${uri(place)}, and --allow ${other} leaves nothing.`);
    expect(await readdir(other)).toEqual([]);
  });

  test("must name a directory", async () => {
    const cwd = await tempFolder();
    const { exitCode, stdout, stderr } = await run(["mcp", "--allow", "none"], { cwd });
    expect([exitCode, stdout]).toEqual([2, ""]);
    expect(stderr).toContain("--allow none: there is no such directory. Name one that exists.");
  });
});

test("several at once are all made", async () => {
  const place = await tempFolder();
  const { call } = await connect({ roots: () => [uri(place)] });
  const names = Array.from({ length: 8 }, (_, index) => `app-${index}`);
  const results = await Promise.all(names.map((directory) => call("create", { ...QUICK, directory })));
  expect(results.map(({ text, isError }) => isError && text)).toEqual(names.map(() => undefined));
  expect((await readdir(place)).sort()).toEqual(names);
  const [first, ...others] = await Promise.all(names.map((name) => readTree(join(place, name))));
  expect(first).toHaveProperty(["ai-stack.json"]);
  expect(others.map((files) => Object.keys(files))).toEqual(others.map(() => Object.keys(first ?? {})));
});

describe("work that is under way", () => {
  /** A uv that says so when it is there, and stays. */
  async function stuckUv(): Promise<Record<string, string>> {
    const uv = 'echo noise; echo noise >&2; echo $$ > "$LOG"; exec sleep 60';
    const PATH = await makePath({ git: true, sh: true, sleep: true, uv });
    return { PATH, LOG: join(await tempFolder(), "uv.pid") };
  }

  async function uvOf({ LOG = "" }: Record<string, string>): Promise<number> {
    await until(async () => existsSync(LOG) && (await readFile(LOG, "utf8")).endsWith("\n"));
    return Number(await readFile(LOG, "utf8"));
  }

  function isAlive(pid: number): boolean {
    try {
      return process.kill(pid, 0);
    } catch {
      return false;
    }
  }

  test("is told, and told again while it lasts", async () => {
    const place = await tempFolder();
    const go = join(await tempFolder(), "go");
    const uv = `while [ ! -e "${go}" ]; do sleep 0.1; done; echo locked > uv.lock`;
    const env = { PATH: await makePath({ git: true, sh: true, sleep: true, uv }) };
    const { call } = await connect({ roots: () => [uri(place)], env });
    const told: Progress[] = [];
    const { data } = await call("create", { directory: "my-app" }, (progress) => {
      told.push(progress);
      if (progress.message?.match(/^Installing the dependencies … \d+ s$/)) void writeFile(go, "");
    });
    expect(told.map(({ message }) => message?.replace(/ … \d+ s$/, " …"))).toEqual(
      expect.arrayContaining(["Writing the files", "Installing the dependencies", "Installing the dependencies …"]),
    );
    expect(told.map(({ progress }) => progress)).toEqual(told.map((_, index) => index + 1));
    expect(data).toMatchObject({ notes: [] });
    expect(await readTree(join(place, "my-app"))).toHaveProperty(["uv.lock"]);
  });

  test("ends when the client cancels it: the project is whole, uv is gone, and the server goes on", async () => {
    const place = await tempFolder();
    const env = await stuckUv();
    const { client, call } = await connect({ roots: () => [uri(place)], env });
    const controller = new AbortController();
    const params = { name: "create", arguments: { directory: "my-app" } };
    const called = client.callTool(params, { signal: controller.signal });
    const pid = await uvOf(env);
    controller.abort();
    await expect(called).rejects.toThrow();
    await until(() => !isAlive(pid));
    expect(await readTree(join(place, "my-app"))).toHaveProperty(["ai-stack.json"]);
    expect((await call("list")).data).toHaveProperty("categories");
  });

  test("leaves a whole project or nothing, whenever the client cancels it", async () => {
    const made = new Set<number>();
    for (let at = 1; at < 60 && made.size < 2; at += 1) {
      const place = await tempFolder();
      const preload = new URL("fault.mjs", import.meta.url).href;
      // It stops at that change, until the client has cancelled.
      const env = { NODE_OPTIONS: `--import=${preload}`, FAULT: "SIGSTOP", FAULT_AT: `${at}` };
      const { server, send, call } = speak(place, env);
      const state = async () => (await readFile(`/proc/${server.pid}/stat`, "utf8")).match(/\) (\w)/)?.[1];
      let output = "";
      server.stdout.on("data", (data) => {
        output += data;
      });
      call(2, "create", { ...QUICK, directory: "my-app" });
      await until(async () => (await state()) === "T" || output.includes('"id":2'));
      send({ method: "notifications/cancelled", params: { requestId: 2 } });
      server.kill("SIGCONT");
      call(3, "list", {});
      await until(() => output.includes('"id":3'));
      server.stdin.end();
      await server;
      const files = Object.keys(await readTree(place));
      expect(files.length === 0 || files.includes("my-app/ai-stack.json"), `${at}: ${files}`).toBe(true);
      expect(await readdir(place)).toEqual(files.length === 0 ? [] : ["my-app"]);
      made.add(files.length);
    }
    expect(made.size).toBe(2);
  });

  test.each(["the client closes stdin", "SIGTERM", "SIGINT"] as const)("ends with the server when %s", async (end) => {
    const place = await tempFolder();
    const env = await stuckUv();
    const { server, call } = speak(place, env);
    call(2, "create", { directory: "my-app" });
    const pid = await uvOf(env);
    if (end === "the client closes stdin") server.stdin.end();
    else server.kill(end);
    const { exitCode, stdout, stderr } = await server;
    expect([exitCode, stderr]).toEqual([0, ""]);
    expect(stdout.split("\n").map((line) => JSON.parse(line).id)).toEqual([1]);
    expect(isAlive(pid)).toBe(false);
    expect(await readTree(join(place, "my-app"))).toHaveProperty(["ai-stack.json"]);
  });

  test("that fails tells the cause, and what to type wherever one is", async () => {
    const place = await tempFolder();
    const env = { PATH: await makePath({ git: true, sh: true, uv: 'echo "error: no such index" >&2; exit 1' }) };
    const { call } = await connect({ roots: () => [uri(place)], env });
    const { isError, text } = await call("create", { directory: "my-app" });
    expect(isError).toBe(true);
    expect(text).toMatch(/^uv could not install the dependencies:\nerror: no such index\nTo try again:\n/);
    expect(text).toContain(`\n  cd ${place}/my-app\n  uv sync`);
  });
});

test("stdout carries the protocol alone, and what is no message ends nothing", async () => {
  const place = await tempFolder();
  const uv = "echo noise; echo noise >&2; echo locked > uv.lock";
  const git = `echo noise; echo noise >&2; exec ${findOnPath("git")} "$@"`;
  const { server, send, call } = speak(place, { PATH: await makePath({ sh: true, uv, git }) });
  for (const line of [
    "",
    "no JSON",
    '{"jsonrpc": "2.0", "id": 9',
    "[]",
    "null",
    '{"id": 9}',
    '{"jsonrpc":"2.0"}',
    "\0",
  ]) {
    server.stdin.write(`${line}\n`);
  }
  send({ id: 2, method: "no/method" });
  call(3, "none", {});
  call(4, "create", { directory: "my-app" }, { progressToken: "p" });
  let output = "";
  server.stdout.on("data", (data) => {
    output += data;
  });
  await until(() => output.includes('"id":4'));
  server.stdin.end();
  const { exitCode, stdout } = await server;
  expect(exitCode).toBe(0);
  const messages = stdout.split("\n").map((line) => JSON.parse(line));
  expect(messages.map(({ jsonrpc }) => jsonrpc)).toEqual(messages.map(() => "2.0"));
  const answers = messages.filter(({ id }) => id !== undefined).sort((a, b) => a.id - b.id);
  expect(answers.map(({ id, error }) => [id, error?.code])).toEqual([
    [1, undefined],
    [2, -32601],
    [3, -32602],
    [4, undefined],
  ]);
  expect(answers[3].result).not.toHaveProperty("isError");
});

test("a bug is told to the client, and with its stack on stderr", async () => {
  const place = await tempFolder();
  const preload = new URL("fault.mjs", import.meta.url).href;
  const { server, call } = speak(place, { NODE_OPTIONS: `--import=${preload}`, FAULT: "BUG", FAULT_AT: "1" });
  call(2, "create", { ...QUICK, directory: "my-app" });
  let output = "";
  server.stdout.on("data", (data) => {
    output += data;
  });
  await until(() => output.includes('"id":2'));
  server.stdin.end();
  const { stdout, stderr } = await server;
  const { result } = JSON.parse(stdout.split("\n").at(-1) ?? "");
  expect(result).toMatchObject({
    isError: true,
    content: [{ text: expect.stringContaining("A bug in create-ai-stack") }],
  });
  expect(stderr).toMatch(/A bug in create-ai-stack: Error: BUG: injected\n\s+at /);
  expect(await readdir(place)).toEqual([]);
});
