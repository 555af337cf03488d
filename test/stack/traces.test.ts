import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, inject, test } from "vitest";
import { until } from "../../src/verify/holdings.ts";
import { type Span, tree } from "./backend.ts";
import { CALL, MODEL, READ, REFUSED, RUN, SEARCH, SECRETS } from "./script.ts";
import { command, embedded, type Service } from "./service.ts";
import { authorized, type Run, traced } from "./traced.ts";

// What really leaves a project that has a token, as a backend gets it.

const TOKEN = { LOGFIRE_TOKEN: "token-4bd1" };

const project = inject("project");
const { model, backend, data, options, serve, work } = await traced(project, "logfire", (url) => ({
  ...TOKEN,
  LOGFIRE_BASE_URL: url,
}));
let service: Service;
let worker: Service;

function ask(question: string, wait = 60): Promise<Run> {
  return service.call("POST", `/ask?wait=${wait}`, { question }, authorized);
}

test("the backend of these tests understands OpenTelemetry's own example", async () => {
  const { exitCode, stderr } = await command(
    { project, data, env: {}, command: ["uv", "run", "python", "-c", EXAMPLE] },
    backend.url,
  );
  expect(exitCode, stderr).toBe(0);
  const { spans, requests } = await backend.seen();
  expect(requests.map(({ headers }) => headers["content-encoding"])).toContain(undefined);
  const [inner, outer] = spans.filter(({ name }) => ["inner", "outer"].includes(name));
  expect(inner).toMatchObject({
    parent: outer?.id,
    trace: outer?.trace,
    attributes: { number: 7, share: 0.5, list: ["a", "b"] },
    events: [{ name: "exception", attributes: { "exception.type": "ValueError" } }],
  });
});

test("a question on the command line is one trace, and its end tells where", async () => {
  const { exitCode, stdout, stderr } = await command(options("ask"), "How long are invoices kept?");
  expect(exitCode, stderr).toBe(0);
  const { spans } = await backend.seen();
  const id = String(spans.find(({ name }) => name === "start question")?.attributes.run_id);
  const run = await backend.trace(id, ["question"]);
  expect(tree(run)).toEqual([{ ask: [{ "start question": [RUN] }] }]);
  for (const { name, attributes } of run.filter(({ name }) => ["ask", "question"].includes(name)))
    expect(attributes, name).toMatchObject(SHOWN);
  expect(stdout).toContain(`Trace: ${page(run)}`);
});

test("a question is one trace across processes: request, run, steps, calls to the model with tokens and cost", async () => {
  service = await serve({ WORKER_CONCURRENCY: "0" });
  worker = await work();
  const note = "Invoices are kept with the password.";
  await service.call("PUT", "/documents/note.md?wait=60", note, authorized);
  const run = await ask("How long are invoices kept, and what is the password?");
  expect(run.status).toBe("succeeded");
  const spans = await backend.trace(run.id, ["question", "POST /ask"]);
  expect(tree(spans)).toEqual([{ "POST /ask": [{ "start question": [RUN] }] }]);
  const pids = (...names: string[]) =>
    new Set(
      spans.filter(({ name }) => names.includes(name) === names.length > 0).map((span) => span.resource["process.pid"]),
    );
  expect(pids("POST /ask", "start question").size).toBe(1);
  expect(pids().size).toBe(2);
  for (const { name, attributes } of spans.filter(({ attributes }) => "dbos.operation.type" in attributes)) {
    expect(attributes["dbos.operation.workflow_id"], name).toBe(run.id);
  }
  for (const { attributes } of spans.filter(({ name }) => name.startsWith("chat"))) {
    expect(attributes).toMatchObject({
      "gen_ai.operation.name": "chat",
      "gen_ai.request.model": MODEL,
      "gen_ai.response.model": "scripted",
      "gen_ai.usage.input_tokens": 100,
      "gen_ai.usage.output_tokens": 20,
      "operation.cost": expect.closeTo((100 * 0.4 + 20 * 1.6) / 1e6, 9),
      "gen_ai.input.messages": expect.stringContaining("what is the password?"),
      "gen_ai.output.messages": expect.stringMatching(/tool_call|ten years/),
    });
  }
  for (const { attributes } of spans.filter(({ name }) => name.startsWith("execute_tool"))) {
    const { "gen_ai.tool.call.arguments": sent, "gen_ai.tool.call.result": found } = attributes;
    expect(JSON.parse(String(sent))).toMatchObject(
      attributes["gen_ai.tool.name"] === "search_documents"
        ? { query: "How long are invoices kept?" }
        : { source: "sample/billing.md", position: 0 },
    );
    const hit = { source: "sample/billing.md", score: expect.any(Number), text: expect.any(String) };
    expect(JSON.parse(String(found))).toContainEqual(expect.objectContaining(hit));
  }
  expect(JSON.stringify(spans)).toContain(note); // not taken for a secret
  expect(run.trace_url).toBe(page(spans));
  const listed = await service.call("GET", "/runs?limit=1", undefined, authorized);
  expect(listed).toMatchObject([{ trace_url: run.trace_url }]);
});

test("who asked is on the spans, and what the answer was worth comes into its trace", async () => {
  const asked = { question: "How long are invoices kept?", session: "s-1", user: "u-1", tags: ["beta", "eu"] };
  const run: Run = await service.call("POST", "/ask?wait=60", asked, authorized);
  const streamed = await service.request("POST", "/ask/stream", asked, authorized);
  const [, id = ""] = /"id":\s*"([^"]+)"/.exec(await streamed.text()) ?? [];
  const stream = await backend.trace(id, ["question", "POST /ask/stream"]);
  expect(stream.find(({ name }) => name === "POST /ask/stream")?.attributes).toMatchObject(SHOWN);
  const feedback = { helpful: true, comment: "Short." };
  expect((await service.request("POST", `/runs/${run.id}/feedback`, feedback, authorized)).status).toBe(204);
  const spans = await backend.trace(run.id, ["question", "POST /ask", "feedback: helpful"]);
  for (const { name, attributes } of spans.filter(({ name }) => !name.startsWith("feedback"))) {
    expect(attributes, name).toMatchObject({ "gen_ai.conversation.id": "s-1", "user.id": "u-1", tags: "beta,eu" });
    if (["POST /ask", "question"].includes(name)) expect(attributes, name).toMatchObject(SHOWN);
  }
  expect(spans.find(({ name }) => name === "feedback: helpful")?.attributes).toMatchObject({
    "logfire.feedback.name": "helpful",
    "logfire.feedback.comment": "Short.",
    helpful: true,
  });
});

test("`eval` is an experiment, and tells where", async () => {
  const cases = join(data, "cases.jsonl");
  const kept = { question: "How long are invoices kept?", expected: ["ten years"], sources: ["sample/billing.md"] };
  await writeFile(cases, `${JSON.stringify(kept)}\n`);
  const { exitCode, stdout, stderr } = await command(options("eval", { EVAL_JUDGE_MODEL: "none" }), cases);
  expect(exitCode, stderr).toBe(0);
  const evaluated = await until("the case", 30, async () =>
    (await backend.seen()).spans.find(
      ({ attributes }) => attributes["case_name"] !== undefined && "scores" in attributes,
    ),
  );
  expect(JSON.parse(String(evaluated.attributes["assertions"]))).toMatchObject({ correct: { value: true } });
  expect(JSON.parse(String(evaluated.attributes["scores"]))).toMatchObject({ recall: { value: 1 } });
  expect(stdout).toContain(page([evaluated]));
});

test("without content, traces tell neither what was asked nor what was answered", async () => {
  const [before, asked] = await backend.seen().then(({ spans, requests }) => [spans.length, requests.length]);
  const question = "How long are invoices kept, Rumpelstiltskin?";
  const { exitCode, stdout, stderr } = await command(options("ask", { TRACE_CONTENT: "false" }), question);
  expect([exitCode, stdout], stderr).toEqual([0, expect.stringContaining("ten years")]);
  const failing = options("ask", { TRACE_CONTENT: "false", LLM_BASE_URL: `${backend.url}/Rumpelstiltskin` });
  const failed = await command(failing, question);
  expect([failed.exitCode, failed.stderr]).toEqual([1, expect.stringContaining("Rumpelstiltskin")]);
  const { spans, requests } = await backend.seen();
  const calls = spans.slice(before).filter(({ name }) => name === `chat ${MODEL}`);
  expect(calls.map(({ status }) => status)).toContain(2);
  expect(JSON.stringify(spans.slice(before))).not.toMatch(/Rumpelstiltskin|ten years/);
  const told = requests.slice(asked).filter(({ path }) => path.startsWith("/v1/"));
  expect(told.map(({ body }) => body).join()).not.toMatch(/Rumpelstiltskin|ten years/);
});

test("killed in mid-run, it goes on in the same trace; each attempt at a step is a call of its own", async () => {
  model.hold(2);
  const question = "How long are invoices kept? (killed)";
  const { id } = await ask(question, 0);
  await until("the second turn", 30, async () => model.counts(question).length === 2);
  const noEnd = `chat ${MODEL}, no end`;
  await until("told of it", 30, async () => (await backend.begun(id)).some(({ name }) => name === noEnd));
  worker.signalGroup("SIGKILL");
  await worker.ended;
  worker = await work({ LLM_TIMEOUT_SECONDS: "3" });
  await until("a second attempt after that", 60, async () => model.counts(question)[1] === 3);
  model.release();

  const run: Run = await service.call("GET", `/runs/${id}?wait=60`, undefined, authorized);
  expect(run.status, run.error ?? "").toBe("succeeded");
  const spans = await backend.trace(id, ["question"]);
  // What the process took along with it stays without an end. Steps that were recorded show again, but call nothing.
  const killed = [{ "llm 1": CALL }, SEARCH, { "llm 2, no end": [noEnd] }];
  const carriedOn = ["llm 1", "search_documents 1.1", { "llm 2": [...CALL, ...CALL] }, READ, { "llm 3": CALL }];
  const runs = [{ "question, no end": killed }, { question: carriedOn }];
  expect(tree(spans)).toEqual([{ "POST /ask": [{ "start question": runs }] }]);
  expect(run.trace_url).toBe(page(spans));
  expect(spans.flatMap(({ events }) => events)).toMatchObject([
    { name: expect.stringContaining("attempt") },
    { name: "exception", attributes: { "exception.type": "app.llm.ModelError" } },
  ]);
});

test("OpenTelemetry's own variable sends to any backend, without a token", async () => {
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: backend.url };
  const { exitCode, stderr } = await command({ project, data, env, command: ["uv", "run", "python", "-c", ELSEWHERE] });
  expect(exitCode, stderr).toBe(0);
  expect((await backend.seen()).spans.map(({ name }) => name)).toContain("elsewhere");
});

test("no secret leaves, but the token in its header; nobody asks how the service is", async () => {
  const { exitCode, stderr } = await command(options("ask"), REFUSED);
  expect([exitCode, stderr]).toEqual([1, expect.stringContaining("Wrong key: Bearer ***")]);
  const { requests: all, spans } = await backend.seen();
  const requests = all.filter(({ path }) => !path.startsWith("/Rumpelstiltskin")); // these were for a model
  const secrets = [...Object.values({ ...SECRETS, ...TOKEN }), new URL((await embedded(data)).url).password];
  for (const { path, headers, body } of requests) {
    const { authorization, ...others } = headers;
    if (path === "/v1/info" || authorization !== undefined) expect(authorization).toBe(TOKEN.LOGFIRE_TOKEN);
    for (const secret of secrets) expect(JSON.stringify(others) + body).not.toContain(secret);
  }
  expect(new Set(requests.map(({ path }) => path))).toEqual(new Set(["/v1/info", "/v1/traces", "/v1/logs"]));
  expect(JSON.stringify(spans)).toContain("Wrong key: Bearer ***");
  expect(spans.filter(({ name }) => /healthz|readyz/.test(name))).toEqual([]);
});

test("what finds the queue full is dropped, counted and told once, and holds up no question", async () => {
  await backend.behave("hang");
  const small = { OTEL_BSP_MAX_QUEUE_SIZE: "4", OTEL_BSP_MAX_EXPORT_BATCH_SIZE: "2" };
  const { exitCode, stdout, stderr } = await command(options("ask", small), "How long are invoices kept?");
  expect([exitCode, stdout], stderr).toEqual([0, expect.stringContaining("ten years")]);
  expect(stderr.match(/\d+ spans did not reach Logfire: its queue was full/g), stderr).toHaveLength(1);
  expect(stderr.match(/Queue full/g)?.length ?? 0, stderr).toBe(1);
  await backend.behave("ok");
});

test("a backend that refuses, talks nonsense or hangs holds up no answer, and what it refused comes later", async () => {
  await backend.behave("503");
  const refused = await ask("How long are invoices kept? (503)");
  await until("refused", 30, async () => (await backend.answered("503")) > 0);
  await backend.behave("ok");
  await backend.trace(refused.id, ["question", "POST /ask"]);

  for (const behaviour of ["429", "401", "garbage"]) {
    await backend.behave(behaviour);
    expect(await ask(`How long are invoices kept? (${behaviour})`)).toMatchObject({ status: "succeeded" });
    await until("it had its chance", 30, async () => (await backend.answered(behaviour)) > 0);
  }
  await backend.behave("hang");
  const open = ask("How long are invoices kept? (hang)");
  await until("it hangs", 30, async () => (await backend.answered("hang")) > 0);
  expect(await open).toMatchObject({ status: "succeeded" });
  expect(await ask("How long are invoices kept? (hangs still)")).toMatchObject({ status: "succeeded" });

  // Nothing was released: it still hangs when they have to stop.
  const held = await service.holdings();
  for (const process of [service, worker]) process.signal("SIGTERM");
  expect(await service.left(held, 30)).toEqual([]);
  for (const { output } of [service, worker]) {
    expect(output).not.toContain("Traceback");
    expect(output.split("\n").filter((line) => /export/.test(line)).length, output).toBeLessThanOrEqual(2);
  }
});

test("without its backend, a command ends all the same, with one warning", async () => {
  await backend.stop();
  const { exitCode, stdout, stderr } = await command(options("ask"), "How long are invoices kept?");
  expect(exitCode, stderr).toBe(0);
  expect(stdout).toContain("ten years");
  expect(stderr.match(/UserWarning/g)).toHaveLength(1);
  expect(stderr).not.toContain("Traceback");
});

function page(spans: Span[]): string {
  return `${backend.url}/team/demo?q=trace_id%3D%27${spans[0]?.trace}%27`;
}

/** What the spans of a request and of its run show. */
const SHOWN = {
  "gen_ai.input.messages": expect.stringContaining('"content": "How long are invoices kept?"'),
  "gen_ai.output.messages": expect.stringContaining('"content": "Invoices are kept for ten years."'),
};

const ELSEWHERE = `
import asyncio

from app import observability


async def main():
    async with observability.lifespan():
        with observability.span("elsewhere"):
            pass


asyncio.run(main())
`;

const EXAMPLE = `
import sys

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

resource = Resource.create(attributes={SERVICE_NAME: "your-service-name"})
tracer_provider = TracerProvider(resource=resource)
tracer_provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{sys.argv[1]}/v1/traces")))
trace.set_tracer_provider(tracer_provider)

tracer = trace.get_tracer("my.tracer.name")
with tracer.start_as_current_span("outer"), tracer.start_as_current_span("inner") as span:
    span.set_attributes({"number": 7, "share": 0.5, "list": ["a", "b"]})
    span.record_exception(ValueError("wrong"))
tracer_provider.shutdown()
`;
