import { type ChildProcess, spawn } from "node:child_process";
import { rm } from "node:fs/promises";
import { afterAll, beforeAll, expect, inject, onTestFinished, test } from "vitest";
import { environment } from "./environment.ts";
import { until } from "./machine.ts";
import { ModelServer } from "./model-server.ts";
import { script } from "./script.ts";
import { embedded, makeFolder, type Run, Service } from "./service.ts";

// A run has five steps: llm 1, search, llm 2, read, llm 3. The model's server counts what really was asked of it.

const project = inject("project");
/** Runs that one process works on at once. */
const CONCURRENCY = 8;
let model: ModelServer;
let data: string;
let service: Service;
let uninterrupted: Run;

beforeAll(async () => {
  model = await ModelServer.start(script);
  data = await makeFolder("data-");
  service = await start();
  uninterrupted = await service.ask("How long are invoices kept?");
});

afterAll(async () => {
  await service?.end();
  await model.stop();
  await rm(data, { recursive: true, force: true });
});

function start(): Promise<Service> {
  return Service.start({ project, data, env: model.env });
}

async function killAndRestart(): Promise<void> {
  service.signalGroup("SIGKILL");
  await service.ended;
  service = await start();
}

function ask(what: string): { question: string; run: Promise<Run> } {
  const question = `How long are invoices kept? (${what})`;
  return { question, run: service.ask(question, 0) };
}

function expectSame(run: Run): void {
  expect(run.status, `${run.error}\n${service.output}`).toBe("succeeded");
  expect(run.result).toEqual(uninterrupted.result);
  expect(run.steps.map(({ name }) => name)).toEqual(uninterrupted.steps.map(({ name }) => name));
  expect(run.steps.every((step) => step.finished_at !== null && step.error === null)).toBe(true);
}

test("uninterrupted, each step runs once, and the answer cites", () => {
  expect(model.counts("How long are invoices kept?")).toEqual([1, 1, 1]);
  expect(uninterrupted).toMatchObject({ status: "succeeded", result: { refused: false, text: expect.any(String) } });
  expect(uninterrupted.result.citations).toMatchObject([{ source: "sample/billing.md" }]);
  expect(uninterrupted.steps.map(({ attempts }) => attempts)).toEqual([1, 1, 1, 1, 1]);
});

test("killed before the first step, and inside a step", async () => {
  model.hold(2);
  const inside = Array.from({ length: CONCURRENCY }, (_, i) => ask(`inside ${i}`));
  const started = await Promise.all(inside.map(({ run }) => run));
  await until("all in their second turn", 60, async () =>
    inside.every(({ question }) => model.counts(question).length === 2),
  );
  const queued = ask("before");
  const waiting = await queued.run;
  expect((await service.run(waiting.id)).status).toBe("queued");

  await killAndRestart();
  model.release();
  for (const { id } of [...started, waiting]) expectSame(await service.run(id, 120));
  for (const { question } of inside) expect(model.counts(question)).toEqual([1, 2, 1]);
  expect(model.counts(queued.question)).toEqual([1, 1, 1]);
});

test("killed after a step ran, before it was recorded: it runs again under the same idempotency key", async () => {
  const unlock = await lock("dbos.operation_outputs");
  const { question, run } = ask("not recorded");
  const { id } = await run;
  await until("the first turn", 20, async () => model.counts(question).length === 1);
  // The answer is there, its record is not: the second turn never comes.
  await new Promise((resolve) => setTimeout(resolve, 1000));
  expect(model.counts(question)).toEqual([1]);

  service.signalGroup("SIGKILL");
  await service.ended;
  unlock();
  service = await start();
  expectSame(await service.run(id, 120));
  expect(model.counts(question)).toEqual([2, 1, 1]);
  const keys = model.calls
    .filter((call) => call.question === question)
    .map(({ turn, headers }) => [turn, headers["idempotency-key"]]);
  expect(keys[0]?.[1]).toEqual(expect.any(String));
  expect(keys[0]).toEqual(keys[1]);
  expect(new Set(keys.map(([, key]) => key)).size).toBe(3);
});

test("killed after a step was recorded, before the next began", async () => {
  const { question, run } = ask("recorded");
  model.hold(1);
  const { id } = await run;
  await until("the first turn", 20, async () => model.counts(question).length === 1);
  // Reading goes on; the event that begins the next step cannot be written.
  const unlock = await lock("dbos.streams");
  model.release();
  await until("recorded", 20, async () => (await service.run(id)).steps[0]?.finished_at);
  const { steps } = await service.run(id);
  expect(steps.map(({ name }) => name)).toEqual(["llm 1"]);

  service.signalGroup("SIGKILL");
  await service.ended;
  unlock();
  service = await start();
  expectSame(await service.run(id, 120));
  expect(model.counts(question)).toEqual([1, 1, 1]);
});

test("killed for good, nothing of it stays: the database goes by itself", async () => {
  const held = await service.holdings();
  expect(held.ports.size).toBeGreaterThanOrEqual(2);
  service.signalGroup("SIGKILL");
  expect(await service.left(held)).toEqual([]);
});

const LOCK = `
import sys
import psycopg
with psycopg.connect(sys.argv[1]) as connection:
    connection.execute(f"LOCK TABLE {sys.argv[2]} IN EXCLUSIVE MODE")
    print("locked", flush=True)
    sys.stdin.read()
`;

/** Lets nobody write into a table, until the function that it returns is called or the database stops. */
async function lock(table: string): Promise<() => void> {
  const { url } = await embedded(data);
  const holder: ChildProcess = spawn("uv", ["run", "python", "-c", LOCK, url, table], {
    cwd: project,
    env: environment(),
    stdio: ["pipe", "pipe", "ignore"],
  });
  const ended = new Promise((resolve) => holder.on("close", resolve));
  onTestFinished(async () => {
    holder.stdin?.end();
    await ended;
  });
  await new Promise((resolve) => holder.stdout?.once("data", resolve));
  return () => holder.stdin?.end();
}
