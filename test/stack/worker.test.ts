import { randomUUID } from "node:crypto";
import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { until } from "../../src/verify/holdings.ts";
import { ModelServer } from "../../src/verify/model-server.ts";
import { environment } from "./environment.ts";
import { script } from "./script.ts";
import { command, makeFolder, type Run, Service, serveDatabase } from "./service.ts";

// `serve` takes runs in and works on none; workers do, each a process of its own on the same PostgreSQL.

const project = inject("project");
/** Seconds until a run of a worker that is gone for good is under way again: README says ten. */
const ADOPTED = 10;
let model: ModelServer;
let folder: string;
let database: { url: string; stop: () => Promise<void> };
let service: Service;
let worker: Service;

beforeAll(async () => {
  model = await ModelServer.start(script);
  folder = await makeFolder("worker-");
  database = await serveDatabase(project, join(folder, "database"));
  service = await serve({ WORKER_CONCURRENCY: "0" });
  worker = await work();
  const billing = await readFile(join(project, "data/sample/billing.md"), "utf8");
  await service.put("sample/billing.md", billing);
});

afterAll(async () => {
  model.release();
  await worker?.end();
  await service?.end();
  await model.stop();
  await database?.stop();
  await rm(folder, { recursive: true, force: true });
});

function serve(env: Record<string, string>): Promise<Service> {
  return Service.start(options("serve", env));
}

function work(env: Record<string, string> = {}): Promise<Service> {
  return Service.start({ ...options("worker", env), ready: "Working on runs" });
}

/** As on a machine of its own: only the database is shared. */
function options(command: string, env: Record<string, string> = {}) {
  const data = join(folder, randomUUID());
  return { project, data, command: ["uv", "run", "my-app", command], env: { ...model.env, ...at(), ...env } };
}

function at(): Record<string, string> {
  return { DATABASE_URL: database.url };
}

async function askAndHold(what: string, turn: number): Promise<{ question: string; id: string }> {
  const question = `How long are invoices kept? (${what})`;
  model.hold(turn);
  const { id } = await service.ask(question, 0);
  await until(`turn ${turn}`, 20, async () => model.counts(question).length === turn);
  return { question, id };
}

test("a question asked of one is answered by the other; without a worker it waits", async () => {
  const answered = await service.ask("How long are invoices kept?");
  expect(answered).toMatchObject({ status: "succeeded", result: { refused: false } });
  await worker.end();
  const { id } = await service.ask("How long are invoices kept? (nobody there)", 3);
  expect(await service.run(id)).toMatchObject({ status: "queued", steps: [] });
  worker = await work();
  expect(await service.run(id, 60)).toMatchObject({ status: "succeeded" });
});

test("the runs of a worker that is killed for good go on in another, behind their last recorded step", async () => {
  const { question, id } = await askAndHold("worker killed", 2);
  const other = await work();
  worker.signalGroup("SIGKILL");
  await until("the turn again", ADOPTED + 2, async () => model.counts(question)[1] === 2);
  model.release();
  expect(await service.run(id, 60)).toMatchObject({ status: "succeeded", error: null });
  expect(model.counts(question)).toEqual([1, 2, 1]);
  await worker.end();
  worker = other;
});

test("a worker that lost its connections lives, also to one that has just started", async () => {
  const { question, id } = await askAndHold("connections lost", 2);
  await python(DISCONNECT);
  const other = await work();
  await new Promise((resolve) => setTimeout(resolve, ADOPTED * 1000));
  model.release();
  expect(await service.run(id, 60)).toMatchObject({ status: "succeeded" });
  expect(model.counts(question)).toEqual([1, 1, 1]);
  await other.end();
});

test("a question of a command that is killed before it begins is answered by a worker", async () => {
  const id = await python(ASK_AND_DIE, "How long are invoices kept? (command killed)");
  await until("it is taken over", ADOPTED + 5, async () => (await service.run(id)).status === "succeeded");
});

test("SIGTERM: a worker ends what it has begun, and a service the requests that it has taken", async () => {
  const own = await serve({});
  await worker.end();
  const question = "How long are invoices kept? (drained)";
  model.hold(1);
  const answer = own.ask(question);
  await until("the first turn", 20, async () => model.counts(question).length === 1);
  own.signal("SIGTERM");
  await until("no new request", 20, async () => !(await own.isListening()));
  model.release();
  expect((await answer).status).toBe("succeeded");
  expect(await own.ended).toBe(143); // uvicorn passes the signal on when it is done

  worker = await work();
  const { question: held, id } = await askAndHold("worker drained", 2);
  worker.signal("SIGTERM");
  await new Promise((resolve) => setTimeout(resolve, 1500));
  model.release();
  expect(await worker.ended).toBe(0);
  expect(await service.run(id)).toMatchObject({ status: "succeeded" });
  expect(model.counts(held)).toEqual([1, 1, 1]);
  worker = await work({ DRAIN_SECONDS: "1" });
});

test("what does not end within DRAIN_SECONDS is left to the next", async () => {
  const { question, id } = await askAndHold("not drained", 3);
  worker.signal("SIGTERM");
  expect(await worker.ended).toBe(0);
  expect(worker.output).not.toContain("Traceback");
  expect(await service.run(id)).toMatchObject({ status: expect.stringMatching(/running|queued/) });
  worker = await work();
  model.release();
  expect(await service.run(id, 60)).toMatchObject({ status: "succeeded", error: null });
  expect(model.counts(question)).toEqual([1, 1, 2]);
});

test("requests and runs have DRAIN_SECONDS together", async () => {
  await worker.end();
  let own = await serve({ DRAIN_SECONDS: "8" });
  const left = "How long are invoices kept? (nobody waits)";
  model.hold(2);
  const { id } = await own.ask(left, 0);
  await until("its second turn", 20, async () => model.counts(left).length === 2);
  setTimeout(() => model.release(), 1500);
  own.signal("SIGTERM");
  await own.ended;
  expect(await service.run(id, 0)).toMatchObject({ status: "succeeded" });
  expect(model.counts(left)).toEqual([1, 1, 1]);

  own = await serve({ DRAIN_SECONDS: "8" });
  const question = "How long are invoices kept? (stopped)";
  model.hold(1);
  const answer = own.ask(question).catch((error: Error) => error);
  await until("the first turn", 20, async () => model.counts(question).length === 1);
  const told = Date.now();
  own.signal("SIGTERM");
  await own.ended;
  expect((Date.now() - told) / 1000).toBeLessThan(14);
  expect(await answer).toBeInstanceOf(Error);
  model.release();
  worker = await work();
});

test("fork repeats a run from a step on, with the settings of the command", async () => {
  const question = "How long are invoices kept? (forked)";
  const { id, steps, result } = await service.ask(question);
  const here = { project, data: folder, env: { ...model.env, ...at(), LLM_MODEL: "another" } };
  const second = steps.find(({ name }) => name === "llm 2")?.number ?? 0;
  const typed = await command(here, "fork", id, "--from", String(second));
  expect(typed, typed.stderr).toMatchObject({ exitCode: 0, stdout: expect.stringContaining(result.text) });
  expect(model.counts(question)).toEqual([1, 2, 2]);
  expect(model.asked(question).map(({ body }) => body.model)).toEqual([
    ...Array(3).fill("scripted"),
    ...Array(2).fill("another"),
  ]);
  const [latest] = await service.call<Run[]>("GET", "/runs?limit=1");
  expect(latest?.id).not.toBe(id);
  const run = await service.run(latest?.id ?? "");
  expect(run).toMatchObject({ status: "succeeded", result: { text: result.text } });
  expect(run.steps.map(({ name }) => name)).toEqual(steps.map(({ name }) => name));

  for (const [of, from, told] of [
    [id, "99", /no step 99/],
    ["nobody", "1", /no run|no such run/],
  ] as const) {
    const refused = await command(here, "fork", of, "--from", from);
    expect(refused).toMatchObject({ exitCode: 1, stderr: expect.stringMatching(told) });
  }
});

const DISCONNECT = `
import sys
import psycopg
with psycopg.connect(sys.argv[1]) as connection:
    others = "FROM pg_stat_activity WHERE pid != pg_backend_pid() AND backend_type = 'client backend'"
    print(len(connection.execute(f"SELECT pg_terminate_backend(pid) {others}").fetchall()))
`;

const ASK_AND_DIE = `
import asyncio
import os
import sys
os.environ["DATABASE_URL"] = sys.argv[1]
from app import main, workflows
from app.agent import Question
async def ask() -> None:
    async with main.stack(None):
        print(await workflows.start_question(Question(question=sys.argv[2])), flush=True)
        os._exit(0)
asyncio.run(ask())
`;

const FIND = `
import sys
from base64 import b64encode
import psycopg
_, url, text = sys.argv
# As it is or, where it stands inside what is encoded, at one of three places.
forms = [text, *(b64encode(b"?" * skip + text.encode())[4:-4].decode() for skip in range(3))]
with psycopg.connect(url) as connection:
    for (table,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'dbos'").fetchall():
        rows = connection.execute(f"SELECT t::text FROM dbos.{table} t").fetchall()
        if any(form in row for (row,) in rows for form in forms):
            print(table)
`;

/** Tables of the engine that have the text. */
function kept(text: string): Promise<string> {
  return python(FIND, text);
}

async function python(script: string, ...args: string[]): Promise<string> {
  const options = { cwd: project, env: environment(), extendEnv: false };
  return (await execa("uv", ["run", "python", "-c", script, database.url, ...args], options)).stdout;
}

test("runs that ended are deleted with the text that they worked on, by command and by a setting", async () => {
  const here = { project, data: folder, env: { ...model.env, ...at() } };
  await service.put("gate.md", "# Gate\n\nThe secret word at the gate is rhubarbarum.\n");
  expect(await kept("rhubarbarum")).not.toBe("");
  expect((await command(here, "prune", "1")).stdout).toBe("Deleted 0 runs.");
  const { question, id } = await askAndHold("under way", 1);
  expect((await command(here, "prune", "0")).stdout).toMatch(/^Deleted \d+ runs\.$/);
  expect(await kept("rhubarbarum")).toBe("");
  model.release();
  expect(await service.run(id, 60)).toMatchObject({ status: "succeeded" });
  expect((await service.call<Run[]>("GET", "/runs")).map((run) => run.id)).toEqual([id]);

  const second = await work({ RUN_RETENTION_DAYS: "0.00001" });
  await until("deleted", 20, async () => (await service.call<Run[]>("GET", "/runs")).length === 0);
  expect((await service.request("GET", `/runs/${id}`)).status).toBe(404);
  expect(model.counts(question)).toEqual([1, 1, 1]);
  await second.end();
});
