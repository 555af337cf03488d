import { rm, writeFile } from "node:fs/promises";
import { createServer as createHttpServer, type RequestListener } from "node:http";
import { type AddressInfo, createServer, type Server } from "node:net";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, onTestFinished, test } from "vitest";
import { freePort } from "../../src/verify/holdings.ts";
import { Backend } from "./backend.ts";
import { environment } from "./environment.ts";
import { command, makeFolder, Service, serveDatabase } from "./service.ts";
import { projectWith } from "./stacks.ts";

// What is wrong is told with its cause and what to do, and nothing is changed.

type Variables = Record<string, string>;

interface Check {
  name: string;
  status: string;
  detail: string;
  remedy: string | null;
}

const OWN = ["settings", "port"];
const SERVERS = ["database", "vector search", "schema", "vectors", "workflow engine"];
const SERVICES = ["model", "embedding model", "traces"];

let project: string;
let data: string;

beforeEach(async () => {
  data = await makeFolder("data-");
});

afterEach(() => rm(data, { recursive: true, force: true }));

/** A PostgreSQL of the user's own, with databases in many a state. */
let folder: string;
let server: { url: string; stop: () => Promise<void> };

beforeAll(async () => {
  project = inject("project");
  folder = await makeFolder("server-");
  server = await serveDatabase(project, join(folder, "postgres"));
  for (const name of ["empty", "old", "newer", "migrated", "bare"]) await sql("postgres", `CREATE DATABASE ${name}`);
  for (const name of ["old", "newer", "migrated"]) {
    const here = { project, data: folder, env: { DATABASE_URL: at(name) } };
    await writeFile(join(folder, "note.md"), "Kept for ten years.");
    expect((await command(here, "ingest", join(folder, "note.md"))).exitCode).toBe(0);
  }
  await sql("old", "UPDATE alembic_version SET version_num = ''");
  await sql("newer", "UPDATE alembic_version SET version_num = '9999'");
  await sql("postgres", "CREATE ROLE guest LOGIN PASSWORD 'sEcret'");
  for (const [name, version] of [
    ["bare", ""],
    ["empty", "0.8.3"],
  ]) {
    const rows = `SELECT 'vector' AS name, '${version}' AS default_version, NULL AS installed_version`;
    await sql(
      name ?? "",
      `CREATE SCHEMA other; CREATE VIEW other.pg_available_extensions AS ${rows} WHERE '${version}' <> ''`,
    );
  }
});

afterAll(async () => {
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

const at = (name: string) => Object.assign(new URL(server.url), { pathname: name }).href;
const asGuest = (name: string, password = "sEcret") =>
  Object.assign(new URL(at(name)), { username: "guest", password }).href;
/** As a server is that has no pgvector, or an old one. */
const without = (name: string) => `${at(name)}?options=-c%20search_path%3Dother,pg_catalog,public`;

async function sql(name: string, statement: string): Promise<void> {
  const code = "import sys, psycopg; psycopg.connect(sys.argv[1], autocommit=True).execute(sys.argv[2])";
  const args = ["run", "python", "-c", code, at(name), statement];
  await execa("uv", args, { cwd: inject("project"), env: environment(), extendEnv: false });
}

/** A database that is well: it takes less time than an embedded server. */
const well = () => ({ DATABASE_URL: at("migrated") });

/** Its checks by name, and those that have failed. */
async function doctor(env: Variables = {}) {
  const options = { project, data, env: { PORT: `${await freePort()}`, ...env } };
  const { exitCode, stdout, stderr } = await command(options, "doctor", "--json");
  const checks: Check[] = JSON.parse(stdout || "[]");
  expect(
    checks.map(({ name }) => name),
    stderr,
  ).toEqual([...OWN, ...SERVERS, ...SERVICES]);
  const failed = checks.filter(({ status }) => status === "failed");
  expect(exitCode).toBe(failed.length > 0 ? 1 : 0);
  for (const { remedy } of failed) expect(remedy).toMatch(/\w/);
  return { checks: Object.fromEntries(checks.map((check) => [check.name, check])), failed, stdout, stderr };
}

/** What has failed, by name, where nothing but `env` can be the reason. */
async function fault(env: Variables) {
  const { checks, failed, stdout, stderr } = await doctor({ ...well(), ...env });
  expect(`${stdout}${stderr}`).not.toContain("sEcret");
  return { checks, failed: failed.map(({ name }) => name), first: failed[0] };
}

async function listen<T extends Server>(server: T): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  return `127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const answer = (reply: RequestListener) => listen(createHttpServer(reply));
/** Takes connections, and says nothing. */
const silence = () => listen(createServer((socket) => void onTestFinished(() => void socket.destroy())));

describe("the default stack", () => {
  beforeAll(() => {
    project = inject("project");
  });

  test("what is well, and what the first start will make; it makes none of it", async () => {
    for (const _ of [1, 2]) {
      const { checks, failed } = await doctor();
      expect(failed).toEqual([]);
      expect(checks).toMatchObject({
        database: { status: "ok", detail: expect.stringContaining("embedded") },
        schema: { status: "warning", remedy: expect.any(String) },
        vectors: { status: "skipped", detail: "needs: schema" },
        model: { status: "ok", detail: expect.stringContaining("quoted from the documents") },
        traces: { status: "ok", detail: expect.stringContaining("not kept") },
      });
    }
  });

  test("beside dev all is well, and the port is its own; in a table, too", async () => {
    const service = await Service.start({ project, data });
    try {
      const PORT = new URL(service.url).port;
      const { checks } = await doctor({ PORT });
      expect(Object.values(checks).filter(({ status }) => status !== "ok")).toEqual([]);
      expect(checks["port"]?.detail).toContain("this application");
      expect(checks["vectors"]?.detail).toContain("all-MiniLM-L6-v2");
      const { exitCode, stdout } = await command({ project, data, env: { PORT } }, "doctor");
      expect(exitCode).toBe(0);
      expect(stdout).toMatch(/^ok +vector search +pgvector \d/m);
      expect((await service.call<unknown[]>("GET", "/runs")).length).toBe(3); // the sample's, and no more
    } finally {
      await service.end();
    }
  });

  test("a port that another program has", async () => {
    const where = await answer((_, response) => response.end("hello"));
    const { first } = await fault({ PORT: where.split(":")[1] ?? "" });
    expect(first).toMatchObject({ name: "port", detail: expect.stringContaining("PORT="), remedy: expect.any(String) });
  });

  async function withDotenv(content: string | Buffer, env: Variables = {}) {
    const file = join(data, "settings.env");
    await writeFile(file, content);
    return fault({ ENV_FILE: file, ...env });
  }

  test.each<[fault: string, told: RegExp, dotenv: string | Buffer]>([
    ["values of another kind", /PORT=abc: .*\n?.*CORS_ORIGINS=http:\/\/x: /s, "PORT=abc\nCORS_ORIGINS=http://x\n"],
    ["a value that only another part reads", /EVAL_MIN_RECALL=many: /, "EVAL_MIN_RECALL=many\n"],
    ["a name that is mistyped", /LLM_MODLE .*LLM_MODEL\?/, "LLM_MODLE=gpt-5-mini\n"],
    ["a line without =", /Line 3 of /, "LLM_MODEL=\n# a key\nLLM_API_KEY sEcret\n"],
    ["an address for all without a key", /HOST=0.0.0.0 needs an API_KEY/, "HOST=0.0.0.0\n"],
    ["bytes that are no text", /settings.env cannot be read: /, Buffer.from([0xff, 0xfe, 0x41])],
  ])("in .env, %s", async (_, told, content) => {
    const { failed, first } = await withDotenv(content, String(content).includes("PORT") ? { PORT: "" } : {});
    expect(failed).toEqual(["settings"]);
    expect(first?.detail).toMatch(told);
  });

  test("in .env, what others read is a warning at most, and what compose.yaml reads is known", async () => {
    const { failed, checks } = await withDotenv("OTEL_SDK_DISABLED=true\nPOSTGRES_PASSWORD=sEcret\n");
    expect(failed).toEqual([]);
    expect(checks["settings"]).toMatchObject({
      status: "warning",
      detail: expect.stringContaining("OTEL_SDK_DISABLED"),
    });
    expect(checks["settings"]?.detail).not.toContain("POSTGRES_PASSWORD");
  });

  test("a folder that takes no data", async () => {
    await writeFile(join(data, "file"), "");
    const { failed, first } = await fault({ DATABASE_URL: "", DATA_DIR: join(data, "file", "data") });
    expect(failed).toEqual(["database", "workflow engine"]);
    expect(first?.detail).toContain("DATA_DIR");
  });

  const LISTED = {
    object: "list",
    data: [{ id: "gpt-4.1-mini" }, { id: "text-embedding-3-small" }, { id: "qwen3:latest" }],
  };
  const json =
    (status: number, body: object): RequestListener =>
    (_, response) =>
      response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
  const model = (where: string, more: Variables = {}) =>
    ({
      LLM_MODEL: "gpt-4.1-mini",
      LLM_API_KEY: "sEcret-key-0123",
      LLM_BASE_URL: `http://${where}/v1`,
      ...more,
    }) as Variables;

  test("a model, an embedding model and a key that their server takes", async () => {
    const asked: (string | undefined)[] = [];
    const where = await answer((request, response) => {
      asked.push(`${request.method} ${request.url} ${request.headers.authorization}`);
      json(200, LISTED)(request, response);
    });
    const { failed, checks } = await fault(model(where, { DATABASE_URL: "", EMBEDDING_MODEL: "qwen3" }));
    expect(failed).toEqual([]);
    expect([checks["model"]?.status, checks["embedding model"]?.status]).toEqual(["ok", "ok"]);
    expect(new Set(asked)).toEqual(new Set(["GET /v1/models Bearer sEcret-key-0123"])); // which costs nothing
  });

  test.each<[fault: string, told: string, reply: RequestListener]>([
    [
      "refuses the key, and repeats it",
      "LLM_API_KEY is missing or wrong",
      (request, response) =>
        json(401, { error: { message: `bad: ${request.headers.authorization}` } })(request, response),
    ],
    ["is broken", "answered 500", json(500, {})],
    ["has other models", "does not list LLM_MODEL, gpt-4.1-mini", json(200, { data: [{ id: "gpt-4.1" }] })],
    ["closes the connection", "Is LLM_BASE_URL right?", (request) => void request.socket.destroy()],
  ])("a model's server that %s", async (_, told, reply) => {
    const { failed, first } = await fault(model(await answer(reply)));
    expect(failed).toEqual(["model"]);
    expect(first?.detail).toContain(told);
  });

  test.each<[fault: string, reply: RequestListener]>([
    ["has no list", json(404, {})],
    ["gives an empty one", json(200, { object: "list", data: [] })],
    ["gives a page", (_, response) => response.writeHead(200, { "Content-Type": "text/html" }).end("<html></html>")],
  ])("a model's server that %s: a warning", async (_, reply) => {
    const { failed, checks } = await fault(model(await answer(reply)));
    expect(failed).toEqual([]);
    expect(checks["model"]).toMatchObject({ status: "warning", detail: expect.stringContaining("not checked") });
  });

  test("servers that take connections and say nothing: each is told, and the rest is checked", async () => {
    const where = await silence();
    const DATABASE_URL = `postgresql://app:sEcret@${where}/app`;
    const { failed, checks } = await fault({ DATABASE_URL, ...model(where), ...keyOf("logfire", `http://${where}`) });
    expect(failed).toEqual(["database", "workflow engine", "model", "traces"]);
    expect(checks["settings"]?.status).toBe("ok");
    expect(checks["schema"]?.status).toBe("skipped");
  });
});

describe("a PostgreSQL of one's own", () => {
  beforeAll(() => {
    project = inject("project");
  });

  test("what it has", async () => {
    const { failed, checks } = await fault({});
    expect(failed).toEqual([]);
    expect(checks).toMatchObject({
      database: { status: "ok", detail: expect.stringContaining("of DATABASE_URL") },
      schema: { status: "ok" },
      vectors: { status: "ok", detail: "of all-MiniLM-L6-v2" },
    });
  });

  test.each<[fault: string, names: string[], told: string, url: () => string]>([
    ["a wrong password", ["database", "workflow engine"], "password authentication", () => asGuest("empty", "sEcret2")],
    ["a database that it has not", ["database", "workflow engine"], "does not exist", () => at("nowhere")],
    ["no server", ["database", "workflow engine"], "Connection refused", () => "postgresql://a:sEcret@127.0.0.1:1/b"],
    [
      "another kind of URL",
      ["database", "workflow engine"],
      "DATABASE_URL is not of the form",
      () => "mysql://a:sEcret@b/c",
    ],
    ["no pgvector", ["vector search"], "and has none", () => without("bare")],
    ["an old pgvector", ["vector search"], "and has 0.8.3", () => without("empty")],
    ["no schema", ["schema"], "It has none", () => at("empty")],
    ["an older schema", ["schema"], "this code has 0001", () => at("old")],
    ["a schema from the future", ["schema"], "9999", () => at("newer")],
    ["no right to read", ["schema"], "permission denied", () => asGuest("migrated")],
    ["no right to make the engine's schema", ["schema", "workflow engine"], "It has none", () => asGuest("empty")],
  ])("%s", async (_, names, told, url) => {
    const { failed, first, checks } = await fault({ DATABASE_URL: url() });
    expect(failed).toEqual(names);
    expect(first?.detail).toContain(told);
    expect(checks["vectors"]?.status).toBe("skipped");
  });

  test("create-ai-stack doctor has the machine in the same list", async () => {
    const env = environment({ DATA_DIR: data, PORT: `${await freePort()}`, ...well() });
    const options = { cwd: join(project, "app"), env, extendEnv: false };
    const cli = join(inject("place"), "node_modules/.bin/create-ai-stack");
    const { checks, ...more } = JSON.parse((await execa(cli, ["doctor", "--json"], options)).stdout);
    expect(more).toEqual({ ok: true, project });
    const names = checks.map(({ name }: Check) => name);
    expect(names).toEqual(["node", "uv", "python", "git", ...OWN, ...SERVERS, ...SERVICES]);
  });

  test("another embedding model than the documents have", async () => {
    const where = await answer((_, response) =>
      response
        .writeHead(200, { "Content-Type": "application/json" })
        .end(JSON.stringify({ data: [{ id: "another" }] })),
    );
    const env = { EMBEDDING_MODEL: "another", LLM_BASE_URL: `http://${where}/v1` };
    const { failed, first } = await fault(env);
    expect(failed).toEqual(["vectors"]);
    expect(first).toMatchObject({
      detail: expect.stringMatching(/all-MiniLM-L6-v2.*another/),
      remedy: expect.stringContaining("`reindex`"),
    });
  });
});

describe("MongoDB and Prefect", () => {
  beforeAll(async () => {
    project = await projectWith("--database mongodb --api fastmcp --workflow prefect");
  });

  test("what is well: an emulated database that compares exactly, and an embedded engine", async () => {
    const { checks, failed } = await doctor();
    expect(failed).toEqual([]);
    expect(checks).toMatchObject({
      database: { status: "ok", detail: expect.stringContaining("emulated by SecantusDB") },
      "vector search": { status: "ok", detail: expect.stringMatching(/^exact, .* no \$vectorSearch$/) },
      schema: { status: "warning" },
      "workflow engine": { status: "ok", detail: expect.stringContaining("embedded") },
    });
  });

  test("after the first start nothing is left to say", async () => {
    expect((await command({ project, data }, "runs")).exitCode).toBe(0);
    const { checks } = await doctor();
    expect(Object.values(checks).filter(({ status }) => status !== "ok")).toEqual([]);
  });

  test("servers that are not there, or say nothing: each is told", async () => {
    for (const where of ["127.0.0.1:1", await silence()]) {
      const env = { DATABASE_URL: `mongodb://app:sEcret@${where}/app`, PREFECT_API_URL: `http://${where}/api` };
      const { failed, checks } = await fault(env);
      expect(failed).toEqual(["database", "workflow engine"]);
      expect(checks["database"]?.remedy).toContain("DATABASE_URL");
      expect(checks["workflow engine"]?.remedy).toContain("PREFECT_API_URL");
    }
  });

  test("a Prefect server that refuses the key, and one that is something else", async () => {
    for (const [status, text] of [
      [401, "{}"],
      [200, "<html></html>"],
    ] as const) {
      const where = await answer((_, response) => response.writeHead(status).end(text));
      const { failed } = await fault({
        DATABASE_URL: "",
        PREFECT_API_URL: `http://${where}/api`,
        PREFECT_API_KEY: "sEcret-key-0123",
      });
      expect(failed).toEqual(["workflow engine"]);
    }
  });
});

/** The settings of a tool whose backend is at this address. */
function keyOf(vendor: string, url: string): Variables {
  const settings: Record<string, Variables> = {
    logfire: { LOGFIRE_TOKEN: "sEcret-key-0123", LOGFIRE_BASE_URL: url },
    langfuse: { LANGFUSE_PUBLIC_KEY: "pk-lf-1", LANGFUSE_SECRET_KEY: "sEcret-key-0123", LANGFUSE_BASE_URL: url },
    langsmith: { LANGSMITH_API_KEY: "sEcret-key-0123", LANGSMITH_ENDPOINT: url },
    opik: { OPIK_API_KEY: "sEcret-key-0123", OPIK_URL_OVERRIDE: `${url}/api` },
  };
  return settings[vendor] ?? {};
}

describe.each([
  ["logfire", "the default stack", "LOGFIRE_TOKEN"],
  ["langfuse", "--observability langfuse", "LANGFUSE_"],
  ["langsmith", "--observability langsmith", "LANGSMITH_API_KEY"],
  ["opik", "--observability opik", "OPIK_API_KEY"],
])("%s", (vendor, stack, variable) => {
  let backend: Backend;

  beforeAll(async () => {
    project = await projectWith(stack);
    backend = await Backend.start(project, vendor);
  });

  afterAll(() => backend.stop());

  test("a key that it takes", async () => {
    const { failed, checks } = await fault(keyOf(vendor, backend.url));
    expect(failed).toEqual([]);
    expect(checks["traces"]).toMatchObject({ status: "ok", detail: expect.stringContaining("takes") });
    expect((await backend.seen()).spans).toEqual([]);
  });

  test.each(["401", "500"])("a key that it answers with %s", async (status) => {
    await backend.behave(status);
    const { failed, first } = await fault(keyOf(vendor, backend.url));
    expect(failed).toEqual(["traces"]);
    expect(first?.detail).toContain(variable);
    expect(first?.remedy).toContain(variable);
  });
});

test("one of two keys of a tool", async () => {
  project = await projectWith("--observability langfuse");
  const { failed, first } = await fault({ LANGFUSE_PUBLIC_KEY: "pk-lf-1" });
  expect(failed).toEqual(["traces"]);
  expect(first?.detail).toContain("LANGFUSE_SECRET_KEY is not set");
});
