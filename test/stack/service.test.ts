import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, inject, onTestFinished, test } from "vitest";
import { holdings } from "../../src/verify/holdings.ts";
import { collapse, command, type Document, makeFolder, type Run, Service } from "./service.ts";

const project = inject("project");

describe("dev, without a key", () => {
  // Where a project keeps its data when nothing is set.
  const data = join(project, ".data");
  let service: Service;
  let files: string;

  beforeAll(async () => {
    files = await makeFolder("files-");
    service = await Service.start({ project, data, env: { DATA_DIR: undefined } });
  });

  afterAll(async () => {
    await service?.end();
    await rm(files, { recursive: true });
    await rm(data, { recursive: true, force: true });
  });

  test("says where it is, and what it does without settings", () => {
    expect(service.output).toContain(service.url);
    expect(service.output).toContain("LOGFIRE_TOKEN is not set");
  });

  test("answers about the samples, with a quote that stands in the file it names", async () => {
    const { status, result } = await service.ask("How long are invoices kept?");
    expect(status).toBe("succeeded");
    expect(result.refused).toBe(false);
    const citation = result.citations.find(({ quote }) => collapse(quote).includes("kept for ten years"));
    expect(citation?.source).toBe("sample/billing.md");
    const file = await readFile(join(project, "data", citation?.source ?? ""), "utf8");
    for (const { quote } of result.citations.filter(({ source }) => source === citation?.source)) {
      expect(collapse(file)).toContain(collapse(quote));
    }
  });

  test("refuses what the documents do not answer", async () => {
    const { status, result } = await service.ask("Which telescope discovered the moons of Neptune?");
    expect(status).toBe("succeeded");
    expect(result).toMatchObject({ refused: true, citations: [] });
  });

  test("streams a run: its steps, its text and its end, each with a number to carry on from", async () => {
    const question = { question: "How many days of paid leave does everyone have?" };
    const response = await service.request("POST", "/ask/stream", question);
    expect(response.headers.get("content-type")).toContain("text/event-stream");
    const events = readEvents(await response.text());
    const kinds = events.map(({ event }) => event);
    expect([kinds[0], kinds.at(-1)]).toEqual(["run", "run"]);
    const last = events.at(-1)?.data as unknown as Run;
    expect(last).toMatchObject({ status: "succeeded", result: { refused: false } });
    const steps = events.filter(({ event }) => event === "step").map(({ data }) => data["name"]);
    expect(steps).toEqual(last.steps.map(({ name }) => name));
    const text = events.filter(({ event }) => event === "text").map(({ data }) => data["text"]);
    expect(text.join("")).toBe(last.result.text);
    const numbered = events.slice(1, -1);
    expect(numbered.map(({ id }) => Number(id))).toEqual(numbered.map((_, index) => index + 1));

    const rest = await service.request("GET", `/runs/${last.id}/events`, undefined, { "Last-Event-ID": "2" });
    expect(readEvents(await rest.text())).toEqual(events.slice(3));
  });

  test("an idempotency key gives the same run again, and is refused for another question", async () => {
    const headers = { "Idempotency-Key": "a key" };
    const ask = (question: string) => service.request("POST", "/ask", { question }, headers);
    const first = (await (await ask("When are invoices due?")).json()) as Run;
    expect(((await (await ask("When are invoices due?")).json()) as Run).id).toBe(first.id);
    const refused = await ask("When are receipts handed in?");
    expect(refused.status).toBe(409);
    expect(refused.headers.get("content-type")).toBe("application/problem+json");
    expect(await refused.json()).toMatchObject({ status: 409, detail: expect.stringContaining("a key") });
  });

  test("a changed document replaces the old one", async () => {
    const before = (await service.put("garden/rules.md", "# Garden\n\nThe garden gate is painted green.\n")).result;
    const question = "Which colour has the garden gate?";
    expect((await service.ask(question)).result.citations[0]).toMatchObject({ source: "garden/rules.md" });

    const after = (await service.put("garden/rules.md", "# Garden\n\nThe garden gate is painted violet.\n")).result;
    expect(after.id).toBe(before.id);
    expect(after.content_hash).not.toBe(before.content_hash);
    const { result } = await service.ask(question);
    expect(result.citations.map(({ quote }) => quote).join()).toContain("violet");
    expect(result.citations.map(({ quote }) => quote).join()).not.toContain("green");
  });

  test("the same content under one name is stored once, under two names twice", async () => {
    const content = "The bicycle shed opens with the blue key.\n";
    const first = (await service.put("shed.txt", content)).result;
    expect((await service.put("shed.txt", content)).result).toEqual(first);
    const second = (await service.put("shed-copy.txt", content)).result;
    const documents = await service.call<Document[]>("GET", "/documents?limit=100");
    const same = documents.filter(({ content_hash }) => content_hash === first.content_hash);
    expect(same).toEqual([second, first]);
  });

  test("says which field is wrong, and its limit", async () => {
    const response = await service.request("POST", "/ask", { question: "x".repeat(4001) });
    expect(response.status).toBe(422);
    expect(response.headers.get("content-type")).toBe("application/problem+json");
    const { detail } = (await response.json()) as { detail: string };
    expect(detail).toMatch(/body\.question: .* 4000 characters/);
    expect((await service.request("PUT", "/documents/picture.png", "PNG")).status).toBe(422);
  });

  test("a page on another host, or from another origin, gets nothing", async () => {
    const { port } = new URL(service.url);
    const foreign = { Origin: "http://evil.example" };
    expect((await service.request("POST", "/ask", { question: "When are invoices due?" }, foreign)).status).toBe(403);
    // fetch does not let one set the host.
    expect(await statusFor(Number(port), "evil.example")).toBe(403);
    expect(await statusFor(Number(port), `127.0.0.1:${port}`)).toBe(200);
  });

  test("the commands speak to it", async () => {
    await mkdir(join(files, "deep"));
    await writeFile(join(files, "deep/roof.md"), "# Roof\n\nThe roof garden closes at 21:00. \u65e5\u672c.\n");
    await writeFile(join(files, "picture.png"), "no text");
    const here = { project, data, env: { DATA_DIR: undefined } };
    const ingested = await command(here, "ingest", files);
    expect([ingested.exitCode, ...ingested.stdout.split("\n").map(collapse).sort()]).toEqual([
      0,
      "1 skipped, 1 succeeded",
      "skipped picture.png .png is not supported",
    ]);

    // A terminal of Windows may know no other characters.
    const narrow = { ...here, env: { ...here.env, PYTHONIOENCODING: "cp1252" } };
    const { exitCode, stdout } = await command(narrow, "ask", "When does the roof garden close?");
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/deep\/roof\.md/);
    expect(stdout).toContain("The roof garden closes at 21:00.");

    const listed = await command(here, "runs");
    const runs = await service.call<Run[]>("GET", "/runs");
    expect(listed.stdout.split("\n").map((line) => line.split(" ")[0])).toEqual(runs.map(({ id }) => id));
    const [latest] = runs;
    const shown = await command(here, "runs", latest?.id ?? "");
    expect(shown.stdout).toMatch(/llm 1 +attempts: 1/);
  });
});

test("an address that cannot be served is told before anything starts", async () => {
  const env = { HOST: "192.0.2.1", API_KEY: "a key" };
  const { exitCode, stdout, stderr } = await command({ project, data: "", env }, "serve");
  expect([exitCode, stdout]).toEqual([1, ""]);
  expect(stderr).toMatch(/^HOST=192\.0\.2\.1, PORT=8000: [^\n]*$/);
});

test("two files that would have one name are told, and neither is taken in", async () => {
  const folder = await makeFolder("files-");
  onTestFinished(() => rm(folder, { recursive: true }));
  const [first, second] = [join(folder, "a"), join(folder, "b")];
  for (const place of [first, second]) {
    await mkdir(place);
    await writeFile(join(place, "notes.md"), place);
  }
  const { exitCode, stderr } = await command({ project, data: folder }, "ingest", first, second);
  expect(exitCode).toBe(1);
  expect(stderr).toBe(`${first}/notes.md and ${second}/notes.md would both be notes.md. Give the folder above them.`);
});

test("dev that is killed leaves nothing", async () => {
  const data = await makeFolder("data-");
  onTestFinished(() => rm(data, { recursive: true }));
  const service = await Service.start({ project, data, command: [join(project, ".venv/bin/my-app"), "dev"] });
  const held = await service.holdings();
  expect(held.processes.size).toBeGreaterThan(2);
  service.signal("SIGKILL");
  expect(await service.left(held)).toEqual([]);
});

test("without a running one, a command starts the stack and leaves nothing", async () => {
  const data = await makeFolder("data-");
  onTestFinished(() => rm(data, { recursive: true }));
  const here = { project, data, env: { PROGRAM_ID: "alone" } };
  const { exitCode, stdout, stderr } = await command(here, "ask", "How long are invoices kept?");
  expect(exitCode, stderr).toBe(0);
  expect(stdout).toContain("sample/billing.md");
  expect(collapse(stdout)).toContain("kept for ten years");
  expect((await command(here, "runs")).stdout).toContain("question");
  expect((await holdings("PROGRAM_ID=alone", [data])).processes).toEqual(new Map());
});

interface ServerSentEvent {
  id: string | undefined;
  event: string | undefined;
  data: Record<string, string>;
}

function readEvents(stream: string): ServerSentEvent[] {
  return stream
    .split(/\r?\n\r?\n/)
    .filter((block) => /^data:/m.test(block))
    .map((block) => {
      const field = (name: string) => block.match(new RegExp(`^${name}: ?(.*)$`, "m"))?.[1]?.trim();
      return { id: field("id"), event: field("event"), data: JSON.parse(field("data") ?? "") };
    });
}

async function statusFor(port: number, host: string): Promise<number | undefined> {
  const { get } = await import("node:http");
  return new Promise((resolve, reject) => {
    get({ port, host: "127.0.0.1", path: "/documents", headers: { Host: host } }, (response) => {
      response.resume();
      resolve(response.statusCode);
    }).on("error", reject);
  });
}
