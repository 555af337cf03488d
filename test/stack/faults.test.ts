import { readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { execa } from "execa";
import { afterEach, beforeEach, describe, expect, inject, onTestFinished, test } from "vitest";
import { freePort, until } from "./machine.ts";
import { command, type Document, embedded, makeFolder, type Run, Service, serveDatabase } from "./service.ts";

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
    const options = { project, data, env: { PORT: `${await freePort()}`, ...env } };
    for (const { exitCode, stderr } of await Promise.all(["runs", "serve"].map((name) => command(options, name)))) {
      const lines = stderr.split("\n").filter((line) => !line.startsWith("INFO: "));
      expect(exitCode).toBeGreaterThan(0);
      expect(lines, stderr).toEqual([expect.stringContaining(told)]);
      expect(stderr).not.toContain("sEcret");
    }
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

test("a database that hangs: 503 on all routes, and what was under way is finished when it goes on", async () => {
  const started = await Service.start({ project, data });
  service = started;
  const { id: asked } = await started.ask("How long are invoices kept?");
  const ingested = await takeIn(started);

  const { pid } = await embedded(data);
  process.kill(pid, "SIGSTOP"); // first, so that it starts no more
  const children = (await readFile(`/proc/${pid}/task/${pid}/children`, "utf8")).trim().split(" ").map(Number);
  const signal = (name: NodeJS.Signals) => {
    for (const each of [pid, ...children]) {
      try {
        process.kill(each, name);
      } catch {} // a connection that has ended meanwhile
    }
  };
  signal("SIGSTOP");
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

  signal("SIGCONT");
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
