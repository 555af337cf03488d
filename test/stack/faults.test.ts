import { readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { afterEach, beforeEach, describe, expect, inject, onTestFinished, test } from "vitest";
import { freePort, until } from "./machine.ts";
import { command, embedded, makeFolder, Service } from "./service.ts";

// What is wrong is told in a line, soon, and nothing is lost.

const project = inject("project");
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
  const text = Array.from({ length: 3000 }, (_, number) => `Thing ${number} costs ${number * 7} crowns.`).join("\n\n");
  const { id: ingested } = await started.call<{ id: string }>("PUT", "/documents/things.md?wait=0", text);
  await until("it is under way", 30, async () => (await started.run(ingested)).steps.length > 1);

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
