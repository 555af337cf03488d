import { rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, onTestFinished, test } from "vitest";
import { until } from "../../src/verify/holdings.ts";
import { environment } from "./environment.ts";
import { refusals } from "./refusals.ts";
import { command, type Document, halt, makeFolder, type Run, Service, serveDatabase } from "./service.ts";

// What is wrong is told in a line, soon, and nothing is lost.

const project = inject("project");
const isRoot = process.getuid?.() === 0;
/** Takes a while to take in. */
const LONG = Array.from({ length: 3000 }, (_, number) => `Thing ${number} costs ${number * 7} crowns.`).join("\n\n");
let data: string;
let service: Service | undefined;

beforeEach(async () => {
  data = await makeFolder("data-");
});

afterEach(async () => {
  await service?.end();
  service = undefined;
  await rm(data, { recursive: true, force: true });
});

describe("at the start", () => {
  const database = (address: string) => ({ DATABASE_URL: `postgresql://app:sEcret@${address}/app` });

  test.each<[fault: string, told: string, env: Record<string, string>]>([
    ["a port that is no number", "PORT=abc: ", { PORT: "abc" }],
    ["a list that is no JSON", "CORS_ORIGINS=http://x: ", { CORS_ORIGINS: "http://x" }],
    ["a limit below zero", "AGENT_MAX_STEPS=-1: ", { AGENT_MAX_STEPS: "-1" }],
    ["a setting of one part", "TRACE_CONSOLE=maybe: ", { TRACE_CONSOLE: "maybe" }],
    ["a database URL of another kind", "DATABASE_URL is not of the form ", { DATABASE_URL: "mysql://a:sEcret@b/c" }],
    ["a password that is not encoded", "DATABASE_URL is not of the form ", database("ret/@h")],
    ["a database on no host", "failed to resolve host", database("no.such.host.invalid")],
    ["a database that refuses", "Connection refused", database("127.0.0.1:1")],
  ])("%s: %s", async (_, told, env) => {
    for (const line of await refusals(project, data, env)) expect(line).toContain(told);
  });

  test("a database that takes connections and says nothing", async () => {
    const silent = createServer();
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => void silent.close());
    const address = silent.address();
    const port = typeof address === "object" ? address?.port : 0;
    const { exitCode, stderr } = await command({ project, data, env: database(`127.0.0.1:${port}`) }, "runs");
    expect(exitCode).toBe(1);
    expect(stderr).toContain("timeout");
  });
});

describe("at the start, by a server that is there", () => {
  let folder: string;
  let server: { url: string; stop: () => Promise<void> };

  beforeAll(async () => {
    folder = await makeFolder("server-");
    server = await serveDatabase(project, join(folder, "postgres"));
    await sql("postgres", "CREATE ROLE guest LOGIN PASSWORD 'sEcret'");
    for (const name of ["empty", "tables", "migrated", "newer"]) await sql("postgres", `CREATE DATABASE ${name}`);
    await sql("tables", "GRANT ALL ON SCHEMA public TO guest");
    await writeFile(join(folder, "note.md"), "Kept for ten years.");
    for (const name of ["migrated", "newer"]) {
      const here = { project, data: folder, env: { DATABASE_URL: at(name) } };
      expect((await command(here, "ingest", join(folder, "note.md"))).exitCode).toBe(0);
    }
    await sql("migrated", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest");
    await sql("newer", "UPDATE alembic_version SET version_num = '9999'");
  });

  afterAll(async () => {
    await server?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  const at = (name: string) => Object.assign(new URL(server.url), { pathname: name }).href;
  const asGuest = (name: string, password = "sEcret") =>
    Object.assign(new URL(at(name)), { username: "guest", password }).href;

  async function sql(name: string, statement: string): Promise<string> {
    const args = ["run", "python", "-c", SQL, at(name), statement];
    return (await execa("uv", args, { cwd: project, env: environment(), extendEnv: false })).stdout;
  }

  test.each<[fault: string, told: string, url: () => string]>([
    ["a password that is wrong", "password authentication failed", () => asGuest("empty", "another sEcret")],
    ["a database that it has not", 'database "nowhere" does not exist', () => at("nowhere")],
    ["a user who may make no table", "permission denied for schema public", () => asGuest("empty")],
    ["a user who may not add pgvector", 'permission denied to create extension "vector"', () => asGuest("tables")],
    [
      "a user who may not make the engine's schema",
      "permission denied for database migrated",
      () => asGuest("migrated"),
    ],
    ["a schema from the future", "A newer version of this code has migrated the database", () => at("newer")],
  ])("%s: %s", async (_, told, url) => {
    for (const line of await refusals(project, data, { DATABASE_URL: url() })) expect(line).toContain(told);
  });

  test("nothing of what was there is lost", async () => {
    for (const name of ["migrated", "newer"])
      expect(await sql(name, "SELECT source FROM documents")).toContain("note.md");
    expect(await sql("newer", "SELECT version_num FROM alembic_version")).toContain("9999");
  });
});

const SQL = `
import sys
import psycopg
with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    done = connection.execute(sys.argv[2])
    print(done.fetchall() if done.description else done.statusmessage)
`;

test("a database that hangs: 503 on all routes, and what was under way is finished when it goes on", async () => {
  const started = await Service.start({ project, data });
  service = started;
  const { id: asked } = await started.ask("How long are invoices kept?");
  const ingested = await takeIn(started);

  const goOn = await halt(data);
  const paths = ["/readyz", "/documents", "/runs", `/runs/${asked}`, `/runs/${asked}/events`];
  const answers = await Promise.all([
    ...paths.map((path) => started.request("GET", path)),
    ...["cancel", "resume"].map((what) => started.request("POST", `/runs/${asked}/${what}`)),
    started.request("POST", "/ask", { question: "Who is paid?" }),
  ]);
  for (const answer of answers) {
    expect(answer.status, answer.url).toBe(503);
    expect(answer.headers.get("content-type")).toBe("application/problem+json");
    expect(Number(answer.headers.get("retry-after"))).toBeGreaterThan(0);
  }
  expect((await started.request("GET", "/healthz")).status).toBe(200);

  goOn();
  await until("it is ready again", 30, () => started.isReady());
  expect(await started.run(ingested, 120), started.output).toMatchObject({ status: "succeeded" });
  expect(await started.run(asked)).toMatchObject({ status: "succeeded" });
});

test.runIf(isRoot)("a full database: told at once, nothing half-stored, and with room again all goes on", async () => {
  const disk = await makeFolder("disk-");
  const filler = join(disk, "filler");
  await execa("mount", ["-t", "tmpfs", "-o", "size=110m", "tmpfs", disk]);
  onTestFinished(() => void execa("umount", ["--lazy", disk]));
  const database = await serveDatabase(project, join(disk, "postgres"));
  onTestFinished(database.stop);
  const here = { project, data, env: { DATABASE_URL: database.url } };
  const started = await Service.start(here);
  service = started;
  const ingested = await takeIn(started);

  await execa("dd", ["if=/dev/zero", `of=${filler}`, "bs=64k"], { reject: false });
  const refused = await started.request("PUT", "/documents/refused.md", LONG);
  expect([refused.status, refused.headers.get("content-type")]).toEqual([503, "application/problem+json"]);
  expect(await refused.json()).toMatchObject({ detail: expect.stringContaining("full") });
  // A question is small: it is refused, or else kept, and answered later.
  const asked = await started.request("POST", "/ask?wait=0", { question: "How long are invoices kept?" });
  expect([202, 503]).toContain(asked.status);
  await writeFile(join(data, "refused.md"), LONG);
  const { exitCode, stdout, stderr } = await command(here, "ingest", join(data, "refused.md"));
  expect(exitCode).toBe(1);
  expect(stdout + stderr).toMatch(/^(failed +refused.md +)?The database .*No space left on device.*$/m);
  expect(stderr).not.toContain("Traceback");

  await rm(filler);
  expect(await started.run(ingested, 150), started.output).toMatchObject({ status: "succeeded" });
  await until("all have ended", 60, async () => {
    const runs = await started.call<Run[]>("GET", "/runs?limit=100");
    return runs.every(({ status }) => status === "succeeded");
  });
  const documents = async () => (await started.call<Document[]>("GET", "/documents")).map(({ source }) => source);
  expect(await documents()).not.toContain("refused.md");
  await started.put("refused.md", LONG.replaceAll("Thing", "Other thing"));
  expect(await documents()).toContain("refused.md");
  expect(started.output).not.toContain("crowns");
});

/** The run of a document that has begun, and goes on for a while. */
async function takeIn(started: Service): Promise<string> {
  const { id } = await started.call<Run>("PUT", "/documents/things.md?wait=0", LONG);
  await until("it is under way", 30, async () => (await started.run(id)).steps.length > 1);
  return id;
}
