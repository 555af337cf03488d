import { appendFile, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, expect, inject, onTestFinished, test } from "vitest";
import { holdings, until } from "../../src/verify/holdings.ts";
import { ModelServer } from "../../src/verify/model-server.ts";
import { script } from "./script.ts";
import { collapse, command, embedded, makeFolder, Service, serveDatabase } from "./service.ts";

const project = inject("project");
let model: ModelServer;
let data: string;

beforeAll(async () => {
  model = await ModelServer.start(script);
});

afterAll(() => model.stop());

const services: Service[] = [];

beforeEach(async () => {
  data = await makeFolder("data-");
});

afterEach(async () => {
  model.release();
  // The last first: they may share their data.
  for (const service of services.splice(0).reverse()) await service.end();
  await rm(data, { recursive: true, force: true });
});

async function start(env: Record<string, string> = {}): Promise<Service> {
  const service = await Service.start({ project, data, env: { ...model.env, ...env } });
  services.push(service);
  return service;
}

test("an edit restarts the application, not the database, and a run under way goes on", async () => {
  const service = await start();
  const { pid } = await embedded(data);
  model.hold(2);
  const question = "How long are invoices kept? (through an edit)";
  const { id } = await service.ask(question, 0);
  await until("the second turn", 20, async () => model.counts(question).length === 2);

  const file = join(project, "app/api.py");
  const original = await readFile(file, "utf8");
  onTestFinished(() => writeFile(file, original));
  await writeFile(file, original.replace(/title="[^"]*"/, 'title="Edited"'));
  const isServed = async () =>
    (await service.isReady()) && (await (await service.request("GET", "/openapi.json")).text()).includes('"Edited"');
  await until("the edit is served", 60, isServed);
  model.release();
  const run = await service.run(id, 60);
  expect(run, service.output).toMatchObject({ status: "succeeded", result: { refused: false } });
  expect(model.counts(question)[0]).toBe(1);
  expect((await embedded(data)).pid).toBe(pid);

  // One that does not even compile: it waits for the next edit.
  await appendFile(file, "\nthis is no Python\n");
  await until("it is down", 30, async () => !(await service.isReady()));
  await writeFile(file, original);
  await until("it is up again", 60, () => service.isReady());
  expect((await embedded(data)).pid).toBe(pid);
});

test("Ctrl-C stops all of it, with a run under way and a stream open", async () => {
  const service = await start();
  model.hold(1);
  const question = "How long are invoices kept? (through Ctrl-C)";
  const stream = service.request("POST", "/ask/stream", { question }).then((response) => response.text());
  stream.catch(() => {}); // it is cut off
  await until("the first turn", 20, async () => model.counts(question).length === 1);
  const held = await service.holdings();
  expect(held.ports.size).toBeGreaterThanOrEqual(2);
  expect(held.memory.size).toBeGreaterThanOrEqual(1);
  service.signalGroup("SIGINT");
  expect(await service.left(held), service.output).toEqual([]);
  model.release();

  // What was under way is finished by the next start.
  const next = await start();
  const [run] = await next.call<{ id: string }[]>("GET", "/runs?limit=1");
  expect(await next.run(run?.id ?? "", 60)).toMatchObject({ status: "succeeded" });
});

test("SIGTERM to the one process that was started stops all of it", async () => {
  const service = await start();
  const held = await service.holdings();
  service.signal("SIGTERM");
  expect(await service.left(held), service.output).toEqual([]);
});

test("a command beside a running service shares its database, and does its own work", async () => {
  const service = await start();
  const { pid } = await embedded(data);
  model.hold(2);
  const question = "How long are invoices kept? (asked beside)";
  const asked = command({ project, data, env: { ...model.env, PROGRAM_ID: "beside" } }, "ask", question);
  await until("the second turn", 30, async () => model.counts(question).length === 2);
  expect((await embedded(data)).pid).toBe(pid);
  expect((await holdings("PROGRAM_ID=beside", [])).ports).toEqual(new Set());
  model.release();
  expect(await asked).toMatchObject({ exitCode: 0, stdout: expect.stringContaining("sample/billing.md") });
  expect(model.counts(question)).toEqual([1, 1, 1]);
  expect((await service.call<{ kind: string }[]>("GET", "/runs?limit=1"))[0]).toMatchObject({ kind: "question" });
  expect((await embedded(data)).pid).toBe(pid);
});

test("a port that is taken is told, and the service that has it stays", async () => {
  const service = await start();
  const second = await command({ project, data, env: { ...model.env, PORT: new URL(service.url).port } }, "dev");
  expect(second.exitCode).not.toBe(0);
  expect(second.stderr).toContain("in use");
  const unset = { ...model.env, DATABASE_URL: "" };
  expect(await command({ project, data, env: unset }, "runs")).toMatchObject({ exitCode: 0, stderr: "" });
  expect((await service.request("GET", "/readyz")).ok).toBe(true);
});

test("DATABASE_URL names another server: then the embedded one is not started", async () => {
  const outside = await makeFolder("outside-");
  const { url, stop } = await serveDatabase(project, outside);
  onTestFinished(async () => {
    await stop();
    await rm(outside, { recursive: true, force: true });
  });
  const service = await start({ DATABASE_URL: url });
  const { result } = await service.ask("How long are invoices kept? (elsewhere)");
  expect(collapse(result.citations[0]?.quote ?? "")).toContain("ten years");
  expect(await readdir(data)).not.toContain("postgres");
  expect([...(await service.holdings()).processes.values()].join("\n")).not.toContain("embedded/postgres");
  const held = await service.holdings();
  service.signalGroup("SIGINT");
  expect(await service.left(held)).toEqual([]);
  expect(await readdir(data)).toEqual([]);
});

test("what is wrong with a command is told in a line", async () => {
  const wrong = await command({ project, data, env: model.env }, "ask", "");
  expect(wrong).toMatchObject({ exitCode: 1, stdout: "" });
  expect(wrong.stderr).toMatch(/^question: .*1 character$/);
  const file = join(project, "README.md");
  const nowhere = await command({ project, data, env: { ...model.env, DATA_DIR: file } }, "runs");
  expect(nowhere).toMatchObject({ exitCode: 1, stdout: "" });
  expect(nowhere.stderr).toMatch(/^PostgreSQL .*DATA_DIR.*README\.md.*$/);
});
