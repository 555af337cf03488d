import { randomUUID } from "node:crypto";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { freePort, until } from "../../src/verify/holdings.ts";
import { ModelServer } from "../../src/verify/model-server.ts";
import { Backend } from "./backend.ts";
import { openBrowser } from "./browser.ts";
import { environment } from "./environment.ts";
import { Program } from "./program.ts";
import { script } from "./script.ts";
import { command, makeFolder, type Run, Service, serveDatabase } from "./service.ts";
import { projectWith } from "./stacks.ts";

// Prefect as its users have it: a server beside `dev`, or one of their own on PostgreSQL that several processes share.

const KEPT = "How long are invoices kept?";
let project: string;
let folder: string;
let model: ModelServer;

beforeAll(async () => {
  project = await projectWith("--workflow prefect");
  folder = await makeFolder("prefect-");
  model = await ModelServer.start(script);
});

afterAll(async () => {
  await model.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Asks, and holds the run in one of its turns. */
async function askAndHold(service: Service, what: string, turn: number): Promise<{ question: string; id: string }> {
  const question = `${KEPT} (${what})`;
  model.hold(turn);
  const { id } = await service.ask(question, 0);
  await until(`turn ${turn}`, 30, async () => model.counts(question).length === turn);
  return { question, id };
}

describe("dev, with a server of its own", () => {
  let data: string;
  let backend: Backend;
  let service: Service;

  beforeAll(async () => {
    data = join(folder, "dev");
    backend = await Backend.start(project, "logfire");
    service = await dev();
  });

  afterAll(async () => {
    await service?.end();
    await backend?.stop();
  });

  function dev(): Promise<Service> {
    const traces = { LOGFIRE_TOKEN: "token-4bd1", LOGFIRE_BASE_URL: backend.url };
    return Service.start({ project, data, env: { ...model.env, ...traces } });
  }

  test("the address of a run opens Prefect's web interface", async () => {
    const run: Run & { url?: string } = await service.ask(KEPT);
    expect(run).toMatchObject({ status: "succeeded", error: null });
    const browser = await openBrowser();
    onTestFinished(() => browser.close());
    const page = await browser.newPage();
    const hosts = new Set<string>();
    page.on("request", (request) => hosts.add(new URL(request.url()).hostname));
    await until("the steps, which the server hears of a little later", 60, async () => {
      await page.goto(run.url ?? "");
      await page.getByText("Task Runs", { exact: true }).click();
      const step = page.getByText(/^search_documents 1\.1/);
      return step.waitFor({ timeout: 5000 }).then(
        () => true,
        () => undefined,
      );
    });
    expect([...hosts].filter((host) => host !== "")).toEqual(["127.0.0.1"]); // no telemetry
  });

  test("commands that begin at once, as the first in their folder, all get an answer", async () => {
    const options = { project, data: join(folder, "at once"), env: model.env };
    const results = await Promise.all([1, 2, 3, 4].map((number) => command(options, "ask", `${KEPT} (${number})`)));
    for (const { exitCode, stdout, stderr } of results) {
      expect(exitCode, stderr).toBe(0);
      expect(stdout).toContain("Invoices are kept for ten years.");
    }
  });

  test("killed with all of its group, it goes on behind the last recorded step when it starts again", async () => {
    const { question, id } = await askAndHold(service, "killed", 2);
    service.signalGroup("SIGKILL");
    await service.ended;
    service = await dev();
    await until("under way again", 15, async () => model.counts(question)[1] === 2);
    model.release();
    expect(await service.run(id, 60)).toMatchObject({ status: "succeeded", error: null });
    expect(model.counts(question)).toEqual([1, 2, 1]);
    const spans = await backend.trace(id, ["question"]);
    const start = spans.find(({ name }) => name === "start question");
    const runs = spans.filter(({ name }) => name.startsWith("question"));
    expect(runs.map(({ name, parent }) => [name, parent])).toEqual([
      ["question, no end", start?.id],
      ["question", start?.id],
    ]);
  });

  test("a run is cancelled, resumed, and run again from a step on by a command beside it", async () => {
    const { question, id } = await askAndHold(service, "cancelled", 2);
    expect(await service.call("POST", `/runs/${id}/cancel`)).toMatchObject({ status: "cancelled" });
    model.release();
    await service.call("POST", `/runs/${id}/resume`);
    expect(await service.run(id, 60)).toMatchObject({ status: "succeeded", error: null });
    expect(model.counts(question)).toEqual([1, 2, 1]);
    const { stdout, stderr } = await command({ project, data, env: model.env }, "fork", id, "--from", "5");
    expect(stdout, stderr).toContain("Invoices are kept for ten years.");
    expect(model.counts(question)).toEqual([1, 2, 2]);
  });

  test.each(["SIGINT", "SIGKILL"] as const)("%s leaves nothing behind", async (signal) => {
    service = (await service.isReady()) ? service : await dev();
    const held = await service.holdings();
    expect([...held.processes.values()].filter((line) => line.includes("embedded/prefect.py"))).toHaveLength(1);
    service.signalGroup(signal);
    expect(await service.left(held)).toEqual([]);
  });
});

const CREATE = `
import sys
import psycopg
with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    connection.execute("CREATE DATABASE prefect")
`;

describe("with a server on PostgreSQL, which asks for a password", () => {
  let database: { url: string; stop: () => Promise<void> };
  let port: number;
  let server: Program;
  let service: Service;
  let worker: Service;
  let at: Record<string, string>;

  beforeAll(async () => {
    database = await serveDatabase(project, join(folder, "database"));
    const options = { cwd: project, env: environment(), extendEnv: false };
    await execa("uv", ["run", "python", "-c", CREATE, database.url], options);
    port = await freePort();
    at = {
      ...model.env,
      DATABASE_URL: database.url,
      PREFECT_API_URL: `http://127.0.0.1:${port}/api`,
      PREFECT_API_AUTH_STRING: "admin:sEcret",
    };
    server = await startServer();
    service = await start("serve", undefined, { WORKER_CONCURRENCY: "0" });
    worker = await start("worker", "Working on runs");
    await service.put("sample/billing.md", "# Billing\n\nInvoices are numbered. They are kept for ten years.\n");
  });

  afterAll(async () => {
    model.release();
    await worker?.end();
    await service?.end();
    await server?.end();
    await database?.stop();
  });

  async function startServer(): Promise<Program> {
    const env = {
      PREFECT_SERVER_DATABASE_CONNECTION_URL: database.url
        .replace("postgresql:", "postgresql+asyncpg:")
        .replace(/postgres$/, "prefect"),
      PREFECT_SERVER_API_AUTH_STRING: "admin:sEcret",
      PREFECT_SERVER_ANALYTICS_ENABLED: "false",
      PREFECT_HOME: join(folder, "server"),
      DO_NOT_TRACK: "1",
    };
    const args = ["uv", "run", "prefect", "server", "start", "--port", `${port}`];
    const program = new Program({ project, data: join(folder, "server"), command: args, env });
    await program.until("up", 120, async () =>
      (await fetch(`http://127.0.0.1:${port}/api/health`).catch(() => undefined)) ? true : undefined,
    );
    return program;
  }

  /** As on a machine of its own. */
  function start(name: string, ready?: string, env: Record<string, string> = {}): Promise<Service> {
    const options = { project, data: join(folder, randomUUID()), command: ["uv", "run", "my-app", name] };
    return Service.start({ ...options, env: { ...at, ...env }, ...(ready === undefined ? {} : { ready }) });
  }

  test("a worker that is killed leaves its run to another, behind the last recorded step", async () => {
    const { question, id } = await askAndHold(service, "worker killed", 2);
    const other = await start("worker", "Working on runs");
    worker.signalGroup("SIGKILL");
    await until("under way again", 20, async () => model.counts(question)[1] === 2);
    model.release();
    expect(await service.run(id, 60)).toMatchObject({ status: "succeeded", error: null });
    expect(model.counts(question)).toEqual([1, 2, 1]);
    await worker.end();
    worker = other;
  });

  test("a worker that stands still loses its run to another, and leaves it there when it goes on", async () => {
    const { question, id } = await askAndHold(service, "stands still", 2);
    const other = await start("worker", "Working on runs");
    worker.signalGroup("SIGSTOP");
    await until("under way again", 20, async () => model.counts(question)[1] === 2);
    worker.signalGroup("SIGCONT");
    await worker.until("it knows", 20, async () => worker.output.includes(`Run ${id} goes on in another process`));
    model.release();
    expect(await service.run(id, 60)).toMatchObject({ status: "succeeded", error: null });
    expect(model.counts(question)).toEqual([1, 2, 1]);
    await other.end();
  });

  test("a worker that is stopped leaves to others what does not end in time", async () => {
    const other = await start("worker", "Working on runs", { DRAIN_SECONDS: "1", WORKER_CONCURRENCY: "1" });
    await worker.end();
    const { question, id } = await askAndHold(service, "drained", 2);
    other.signal("SIGTERM");
    expect(await other.ended, other.output).toBe(0);
    expect(other.output).not.toContain("Traceback");
    worker = await start("worker", "Working on runs");
    await until("under way again", 20, async () => model.counts(question)[1] === 2);
    model.release();
    expect(await service.run(id, 60)).toMatchObject({ status: "succeeded", error: null });
    expect(model.counts(question)).toEqual([1, 2, 1]);
  });

  test("a work pool that somebody deletes is made anew", async () => {
    const pool = `http://127.0.0.1:${port}/api/work_pools/app`;
    const headers = { Authorization: `Basic ${Buffer.from("admin:sEcret").toString("base64")}` };
    expect((await fetch(pool, { method: "DELETE", headers })).status).toBe(204);
    await until("there again", 20, async () => (await fetch(pool, { headers })).ok);
    expect(await service.ask(KEPT)).toMatchObject({ status: "succeeded" });
  });

  test("a wrong password is told in a line", async () => {
    const env = { ...at, PREFECT_API_AUTH_STRING: "admin:wrong" };
    const { exitCode, stderr } = await command({ project, data: join(folder, "wrong"), env }, "runs");
    expect(exitCode).toBe(1);
    expect(stderr.split("\n").filter((line) => !line.startsWith("INFO"))).toEqual([
      expect.stringMatching(/answered 401: .*PREFECT_API_AUTH_STRING/),
    ]);
  });

  test("a server that is away is told at once, and what was under way ends when it is back", async () => {
    const { question, id } = await askAndHold(service, "server away", 2);
    server.signalGroup("SIGKILL");
    await server.ended;
    for (const [method, path] of [
      ["GET", "/readyz"],
      ["GET", `/runs/${id}`],
      ["POST", "/ask"],
    ] as const) {
      const response = await service.request(method, path, method === "POST" ? { question: KEPT } : undefined);
      expect([response.status, await response.text()]).toEqual([503, expect.stringContaining("Prefect's server")]);
    }
    const { exitCode, stderr } = await command({ project, data: join(folder, "away"), env: at }, "runs");
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/^(INFO.*\n)*Prefect's server does not answer: .*PREFECT_API_URL/);
    model.release();
    server = await startServer();
    expect(await service.run(id, 120)).toMatchObject({ status: "succeeded", error: null });
    expect(model.counts(question)).toEqual([1, 1, 1]);
  });

  test("runs are deleted with the text that they worked on", async () => {
    const ended = (await service.call<Run[]>("GET", "/runs")).length;
    const { stdout } = await command({ project, data: join(folder, "prune"), env: at }, "prune", "0");
    expect(stdout).toBe(`Deleted ${ended} runs.`);
    expect(await service.call("GET", "/runs")).toEqual([]);
  });
});
