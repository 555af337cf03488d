import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { until } from "../../src/verify/holdings.ts";
import { environment } from "./environment.ts";
import { refusals } from "./refusals.ts";
import { command, type Document, makeFolder, type Run, Service } from "./service.ts";
import { projectWith } from "./stacks.ts";

// A project with MongoDB holds what one with PostgreSQL does, on the server that is emulated.

const QUESTION = "How long are invoices kept?";
let project: string;
let data: string;
let service: Service | undefined;

beforeAll(async () => {
  project = await projectWith("--database mongodb");
});

beforeEach(async () => {
  data = await makeFolder("data-");
});

afterEach(async () => {
  await service?.end();
  service = undefined;
  await rm(data, { recursive: true, force: true });
});

async function start(env: Record<string, string> = {}): Promise<Service> {
  service = await Service.start({ project, data, env });
  return service;
}

/** The process id and the URL of the emulated server. */
async function emulated(): Promise<{ pid: number; url: string }> {
  const [, , url = "", pid] = (await readFile(join(data, "mongodb/running"), "utf8")).split(" ");
  return { pid: Number(pid), url };
}

function run(...args: string[]) {
  const options = { cwd: project, env: environment(), extendEnv: false, reject: false, all: true };
  return execa("uv", ["run", ...args], options);
}

test("it answers, is killed with all of its group, and answers the same, with nothing left behind", async () => {
  const first = await start();
  expect(await first.call("GET", "/readyz")).toEqual({ status: "ok", search: "exact, up to 20,000 passages" });
  expect(first.output).toContain("MongoDB, emulated by SecantusDB, search: exact");
  const { result, id } = await first.ask(QUESTION);
  expect(result.citations[0]).toMatchObject({ source: "sample/billing.md" });
  await first.put("more.md", "The mascot is a heron.");
  const held = await first.holdings();
  first.signalGroup("SIGKILL");
  expect(await first.left(held), first.output).toEqual([]);

  const second = await start();
  expect(await second.run(id)).toMatchObject({ status: "succeeded", result });
  expect((await second.ask(QUESTION)).result).toMatchObject({ text: result.text });
  expect((await second.ask("What is the mascot?")).result.text).toContain("heron");
  const stopped = await second.holdings();
  second.signalGroup("SIGINT");
  expect(await second.left(stopped), second.output).toEqual([]);
});

test("a server that hangs: 503, and what was asked is answered when it goes on", async () => {
  const started = await start();
  const { pid } = await emulated();
  process.kill(pid, "SIGSTOP");
  try {
    const paths = ["/readyz", "/documents"];
    for (const answer of await Promise.all(paths.map((path) => started.request("GET", path)))) {
      expect(answer.status, answer.url).toBe(503);
      expect(await answer.text()).not.toContain("127.0.0.1");
    }
    expect((await started.request("GET", "/healthz")).status).toBe(200);
  } finally {
    process.kill(pid, "SIGCONT");
  }
  await until("it is ready again", 30, () => started.isReady());
  expect((await started.ask(QUESTION)).result).toMatchObject({ refused: false });
});

test("hostile documents and names are taken in as they are, or refused with the reason", async () => {
  const started = await start();
  const metadata = new URLSearchParams([
    ["metadata", "$where:1"],
    ["metadata", "a.b:{'$gt': ''}"],
  ]);
  const name = encodeURIComponent('$set.{"$ne": 1}.md');
  const text = 'The safe opens with a copper key. {"$where": "while (true);"}';
  const taken = await started.call<Run<Document>>("PUT", `/documents/${name}?${metadata}`, text);
  const { source, id } = taken.result;
  expect(source).toBe('$set.{"$ne": 1}.md');
  const kept = await started.call<Document & { metadata: object }>("GET", `/documents/${id}`);
  expect(kept.metadata).toEqual({ $where: "1", "a.b": "{'$gt': ''}" });
  const body = { question: "What does the safe open with?", filters: { $where: "1" } };
  expect((await started.call<Run>("POST", "/ask?wait=60", body)).result.citations[0]).toMatchObject({ source });
  const others = { ...body, filters: { $where: '{"$ne": ""}' } };
  expect((await started.call<Run>("POST", "/ask?wait=60", others)).result.refused).toBe(true);
  expect((await started.request("GET", "/documents?after=%00")).status).toBe(422);
});

describe("told in a line at the start", () => {
  async function told(env: Record<string, string>): Promise<string> {
    return (await refusals(project, data, env)).join("\n");
  }

  test.each([
    ["a database URL of another kind", "DATABASE_URL is not of the form", "postgresql://a:sEcret@h/a"],
    ["a password that is not encoded", "DATABASE_URL is not of the form", "mongodb://a:sEcret/@h/a"],
    ["a port that is none", "DATABASE_URL is not of the form", "mongodb://a:sEcret@h:sEcret/a"],
    ["a host that is none", "no.such.host.invalid", "mongodb://a:sEcret@no.such.host.invalid/a"],
    ["a server that refuses", "Connection refused", "mongodb://a:sEcret@127.0.0.1:1/a"],
  ])("%s: %s", async (_, expected, url) => expect(await told({ DATABASE_URL: url })).toContain(expected));

  test("a wrong password, and a schema from the future; and two that migrate at once", async () => {
    await start();
    const { url } = await emulated();
    const wrong = url.replace(/app:[^@]*/, "app:sEcret");
    expect(await told({ DATABASE_URL: wrong })).toMatch(/authentication failed/i);
    const fresh = url.replace("/app?", "/fresh?");
    const both = ["migrate", "migrate"].map((name) => command({ project, data, env: { DATABASE_URL: fresh } }, name));
    for (const { exitCode, stderr } of await Promise.all(both)) expect(exitCode, stderr).toBe(0);
    const script = "import sys, pymongo; url, name = sys.argv[1:]\n";
    const insert = "pymongo.MongoClient(url).get_default_database().migrations.insert_one({'_id': name})";
    expect((await run("python", "-c", script + insert, fresh, "9999_future")).exitCode).toBe(0);
    expect(await told({ DATABASE_URL: fresh })).toContain("A newer version of this code has migrated the database");
  });
});

test("with another embedding model, `reindex` is asked for", async () => {
  await writeFile(join(data, "note.md"), "Kept for ten years.");
  expect((await command({ project, data }, "ingest", join(data, "note.md"))).exitCode).toBe(0);
  const { exitCode, stdout } = await command({ project, data }, "reindex");
  expect([exitCode, stdout]).toEqual([0, ""]);
  expect((await command({ project, data }, "ask", "How long is it kept?")).stdout).toContain("ten years");
});
