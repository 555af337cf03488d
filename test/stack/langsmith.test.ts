import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { until } from "../../src/verify/holdings.ts";
import { type Seen, type Span, tree } from "./backend.ts";
import { CALL, MODEL, READ, REFUSED, RUN, SECRETS } from "./script.ts";
import { command, embedded, type Service } from "./service.ts";
import { projectWith } from "./stacks.ts";
import { authorized, type Run, traced } from "./traced.ts";

// What really leaves a project that has a key of LangSmith, as a backend gets it. It shows spans alone whose parents
// it has, and takes the spans of a trace in any order.

const KEY = { LANGSMITH_API_KEY: "lsv2_key-4bd1" };

const project = await projectWith("--observability langsmith");
const { model, backend, data, options, serve, work } = await traced(project, "langsmith", (url, name) => ({
  ...KEY,
  LANGSMITH_ENDPOINT: url,
  LANGSMITH_PROJECT: "questions",
  LANGSMITH_ENVIRONMENT: "test",
  OTEL_RESOURCE_ATTRIBUTES: `as=${name}`,
}));
let service: Service;
let worker: Service;

function ask(question: string, wait = 60, headers = {}): Promise<Run> {
  return service.call("POST", `/ask?wait=${wait}`, { question }, { ...authorized, ...headers });
}

/** The bodies of the requests to a path, from the first or a later one on. */
function sent(requests: Seen["requests"], path: string, method = "POST") {
  return requests.filter((each) => each.path === path && each.method === method).map(({ body }) => JSON.parse(body));
}

test("the backend of these tests understands the examples of LangSmith's SDK", async () => {
  const env = { LANGSMITH_ENDPOINT: backend.url, LANGSMITH_API_KEY: "lsv2_example", LANGSMITH_TRACING: "true" };
  const { exitCode, stderr } = await command({ project, data, env, command: ["uv", "run", "python", "-c", EXAMPLES] });
  expect(exitCode, stderr).toBe(0);
  const { spans, requests } = await backend.seen();
  const [inner, outer] = spans;
  expect([inner?.name, outer?.name, inner?.parent, inner?.trace]).toEqual(["inner", "outer", outer?.id, outer?.trace]);
  const { headers } = requests.find(({ path }) => path === "/otel/v1/traces") ?? {};
  expect(headers).toMatchObject({ "x-api-key": "your-api-key", "langsmith-project": "your-project" });
  expect(requests.map(({ path }) => path)).toContain("/runs/multipart");
  expect(sent(requests, "/feedback")).toMatchObject([{ key: "user_feedback" }, { key: "correctness", score: 0 }]);
});

test("a question on the command line is one trace, and its end tells where", async () => {
  const { exitCode, stdout, stderr } = await command(options("ask"), "How long are invoices kept?");
  expect(exitCode, stderr).toBe(0);
  const { spans, requests } = await backend.seen();
  const id = String(spans.find(({ name }) => name === "start question")?.attributes["langsmith.metadata.run_id"]);
  const run = await backend.trace(id, ["question"]);
  expect(tree(run)).toEqual([{ ask: [{ "start question": [RUN] }] }]);
  for (const { attributes } of run.filter(({ name }) => ["ask", "question"].includes(name))) expectShown(attributes);
  expect(sent(requests, "/sessions?upsert=True")).toMatchObject([{ name: "questions" }]); // it was not there yet
  expect(stdout).toContain(`Trace: ${await page(run)}`);
});

test("a question is one trace across processes: request, run, steps, calls to the model with tokens and cost", async () => {
  service = await serve({ WORKER_CONCURRENCY: "0" });
  worker = await work();
  // What a client sends is no parent that LangSmith knows.
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const run = await ask("How long are invoices kept, and what is the password?", 60, { traceparent });
  expect(run.status).toBe("succeeded");
  const spans = await backend.trace(run.id, ["question", "POST /ask"]);
  expect(tree(spans)).toEqual([{ "POST /ask": [{ "start question": [RUN] }] }]);
  expect(spans.find(({ name }) => name === "POST /ask")?.parent).toBe("");
  const processes = spans.map(({ name, resource }) => [/^(POST|start)/.test(name), resource.as]);
  expect(new Set(processes.map(String))).toEqual(new Set(["true,serve", "false,worker"]));
  expect(spans[0]?.resource).toMatchObject({ "service.name": "app", "deployment.environment.name": "test" });
  for (const { attributes } of spans.filter(({ name }) => name.startsWith("chat"))) {
    expect(attributes).toMatchObject({
      "langsmith.span.kind": "llm",
      "gen_ai.system": "127.0.0.1",
      "gen_ai.request.model": MODEL,
      "gen_ai.response.model": "scripted",
    });
    expect(read(attributes, "langsmith.usage_metadata")).toMatchObject({
      input_tokens: 100,
      output_tokens: 20,
      total_tokens: 120,
      total_cost: expect.closeTo((100 * 0.4 + 20 * 1.6) / 1e6, 9),
    });
    const asked = { role: "user", content: "How long are invoices kept, and what is the password?" };
    expect(read(attributes, "gen_ai.prompt").messages).toContainEqual(asked);
    const [said] = read(attributes, "gen_ai.completion").messages;
    expect(said.content + JSON.stringify(said.tool_calls)).toMatch(/search_documents|read_document|ten years/);
  }
  const [search, passages] = spans.filter(({ name }) => name.startsWith("execute_tool"));
  expect(read(search?.attributes, "gen_ai.prompt")).toEqual({ query: "How long are invoices kept?" });
  expect(read(passages?.attributes, "gen_ai.prompt")).toEqual({ source: "sample/billing.md", position: 0 });
  for (const { attributes } of [search, passages] as Span[]) {
    expect(attributes["langsmith.span.kind"]).toBe("retriever");
    const metadata = expect.objectContaining({ source: "sample/billing.md", score: expect.any(Number) });
    const hit = { page_content: expect.stringMatching(/ten\s+years/), metadata };
    expect(read(attributes, "gen_ai.completion").documents).toContainEqual(hit);
  }
  expect(run.trace_url).toBe(await page(spans));
  const listed = await service.call("GET", "/runs?limit=1", undefined, authorized);
  expect(listed).toMatchObject([{ trace_url: run.trace_url }]);
});

test("who asked is on the spans, and what the answer was worth is feedback on its trace", async () => {
  const asked = { question: "How long are invoices kept?", session: "s-1", user: "u-1", tags: ["beta", "eu"] };
  const run: Run = await service.call("POST", "/ask?wait=60", asked, authorized);
  const given = { helpful: true, comment: "Short." };
  expect((await service.request("POST", `/runs/${run.id}/feedback`, given, authorized)).status).toBe(204);
  const spans = await backend.trace(run.id, ["question", "POST /ask"]);
  const who = { "langsmith.metadata.thread_id": "s-1", "langsmith.metadata.user_id": "u-1" };
  for (const { name, attributes } of spans) {
    expect(attributes, name).toMatchObject({ ...who, "langsmith.span.tags": "beta,eu" });
    if (["POST /ask", "question"].includes(name)) expectShown(attributes);
  }
  const [feedback] = await until("the feedback", 30, async () => {
    const all = sent((await backend.seen()).requests, "/feedback").filter(({ key }) => key === "helpful");
    return all.length > 0 && all;
  });
  const [, projectId, runId] = /projects\/p\/(.*)\/r\/(.*)\?/.exec(await page(spans)) ?? [];
  expect(feedback).toMatchObject({ run_id: runId, session_id: projectId, score: true, comment: "Short." });
});

test("`eval` is an experiment and tells where; a second one reuses the dataset and its examples", async () => {
  const file = join(data, "cases.jsonl");
  const sources = ["sample/billing.md", "sample/incidents.txt", "sample/handbook.md"]; // a set: in any order
  await writeFile(file, `${JSON.stringify({ question: "How long are invoices kept?", expected: ["ten"], sources })}\n`);
  for (const _ of ["first", "second"]) {
    const judge = { EVAL_JUDGE_MODEL: "none", EVAL_MIN_RECALL: "0" };
    const { exitCode, stdout, stderr } = await command(options("eval", judge), file);
    expect(exitCode, stderr).toBe(0);
    const { requests, spans } = await backend.seen();
    const experiment = sent(requests, "/sessions").at(-1);
    const dataset = experiment.reference_dataset_id;
    expect(stdout).toContain(`/datasets/${dataset}/compare?selectedSessions=${experiment.id}`);
    const [example] = sent(requests, "/examples");
    expect(example).toMatchObject({ dataset_id: dataset, inputs: { question: "How long are invoices kept?" } });
    const run = sent(requests, "/runs").at(-1);
    expect(run).toMatchObject({ session_name: experiment.name, reference_example_id: example.id });
    expect(run.outputs.answer.text).toContain("ten years");
    const scores = sent(requests, "/feedback").filter(({ run_id }) => run_id === run.id);
    expect(scores.map(({ key }) => key)).toEqual(["correct", "grounded", "recall"]);
    expect(spans.map(({ name }) => name)).toContain("evaluate answers");
  }
  const { requests } = await backend.seen();
  expect([sent(requests, "/datasets").length, sent(requests, "/examples").length]).toEqual([1, 1]);
});

test("without content, traces tell neither what was asked nor what was answered", async () => {
  const before = (await backend.seen()).spans.length;
  const env = { TRACE_CONTENT: "false", TRACE_CONSOLE: "true", LLM_TIMEOUT_SECONDS: "2" };
  model.hold(2); // the second turn runs into the limit
  const asking = command(options("ask", env), "How long are invoices kept, Rumpelstiltskin?");
  await until("tried again", 60, async () => model.counts("How long are invoices kept, Rumpelstiltskin?")[1] === 2);
  model.release();
  const { exitCode, stdout, stderr } = await asking;
  expect([exitCode, stdout], stderr).toEqual([0, expect.stringContaining("ten years")]);
  const spans = (await backend.seen()).spans.slice(before);
  expect(spans.flatMap(({ events }) => events)).toMatchObject([
    { attributes: { "exception.type": "app.llm.ModelError" } },
    { name: expect.stringContaining("attempt") },
  ]);
  for (const told of [JSON.stringify(spans), stderr]) {
    expect(told).toContain(`chat ${MODEL}`);
    expect(told).not.toMatch(/Rumpelstiltskin|ten years/);
  }
});

test("without a key nothing is sent, and the spans can be seen all the same", async () => {
  const before = (await backend.seen()).requests.length;
  const env = { LANGSMITH_API_KEY: "", LANGSMITH_TRACING: "true", TRACE_CONSOLE: "true" };
  const { exitCode, stdout, stderr } = await command(options("ask", env), "How long are invoices kept?");
  expect([exitCode, stderr]).toEqual([0, expect.stringContaining(`"name": "chat ${MODEL}"`)]);
  expect(stderr).not.toMatch(/WARNING|ERROR/);
  expect(stdout).not.toContain("Trace:");
  expect((await backend.seen()).requests.length).toBe(before);
});

test("killed in mid-run, it goes on in the same trace", async () => {
  model.hold(2);
  const question = "How long are invoices kept? (killed)";
  const { id } = await ask(question, 0);
  await until("the second turn", 30, async () => model.counts(question).length === 2);
  await until("told of the first", 30, async () => (await backend.begun(id)).some(({ name }) => name === "llm 1"));
  worker.signalGroup("SIGKILL");
  await worker.ended;
  model.release();
  worker = await work();
  const run: Run = await service.call("GET", `/runs/${id}?wait=60`, undefined, authorized);
  expect(run.status, run.error ?? "").toBe("succeeded");
  const spans = await backend.trace(id, ["question", "POST /ask"]);
  // Steps that were recorded show again, but call nothing. What is below what never ended does not show.
  const carriedOn = ["llm 1", "search_documents 1.1", { "llm 2": CALL }, READ, { "llm 3": CALL }];
  const [shown] = tree(spans).filter((each) => typeof each === "object" && "POST /ask" in each);
  expect(shown).toEqual({ "POST /ask": [{ "start question": [{ question: carriedOn }] }] });
  expect(run.trace_url).toBe(await page(spans));
});

test("no secret leaves, but the key in its header; nobody asks how the service is", async () => {
  const { exitCode, stderr } = await command(options("ask"), REFUSED);
  expect([exitCode, stderr]).toEqual([1, expect.stringContaining("Wrong key: Bearer ***")]);
  const { requests, spans } = await backend.seen();
  const secrets = [...Object.values({ ...SECRETS, ...KEY }), new URL((await embedded(data)).url).password];
  const own = requests.filter(({ headers }) => headers["x-api-key"] === KEY.LANGSMITH_API_KEY);
  expect(own.length).toBeGreaterThan(20);
  for (const { path, headers, body } of own) {
    const { "x-api-key": _, ...others } = headers;
    if (path === "/otel/v1/traces") expect(headers["langsmith-project"]).toBe("questions");
    for (const secret of secrets) expect(JSON.stringify(others) + body).not.toContain(secret);
  }
  expect(JSON.stringify(spans)).toContain("Wrong key: Bearer ***");
  expect(spans.filter(({ name }) => /healthz|readyz/.test(name))).toEqual([]);
});

test("what finds the queue full is dropped, counted and told once, and holds up no question", async () => {
  await backend.behave("hang");
  const small = { OTEL_BSP_MAX_QUEUE_SIZE: "4", OTEL_BSP_MAX_EXPORT_BATCH_SIZE: "2" };
  const { exitCode, stdout, stderr } = await command(options("ask", small), "How long are invoices kept?");
  expect([exitCode, stdout], stderr).toEqual([0, expect.stringContaining("ten years")]);
  expect(stderr.match(/[1-9]\d* spans and 0 scores did not reach LangSmith/g), stderr).toHaveLength(1);
  expect(stderr.match(/Queue full/g)?.length ?? 0, stderr).toBe(0);
  await backend.behave("ok");
});

test("a backend that refuses, talks nonsense or hangs holds up no answer, and no feedback", async () => {
  for (const behaviour of ["401", "429", "500", "garbage", "hang"]) {
    await backend.behave(behaviour);
    const run = await ask(`How long are invoices kept? (${behaviour})`);
    expect(run).toMatchObject({ status: "succeeded" });
    const feedback = await service.request("POST", `/runs/${run.id}/feedback`, { helpful: false }, authorized);
    expect(feedback.status).toBe(204);
    await until("it had its chance", 30, async () => (await backend.answered(behaviour)) > 0);
  }
  // Nothing was released: it still hangs when they have to stop.
  const held = await service.holdings();
  for (const process of [service, worker]) process.signal("SIGTERM");
  expect(await service.left(held, 30)).toEqual([]);
  for (const { output } of [service, worker]) {
    expect(output).not.toContain("Traceback");
    expect(output.split("\n").filter((line) => /export/.test(line)).length, output).toBeLessThanOrEqual(2);
    expect(output.match(/[1-9]\d* spans and \d scores did not reach LangSmith/g)).toHaveLength(1);
    expect(output.match(/Feedback does not reach LangSmith: \w+/g) ?? []).toSatisfy(
      (told) => new Set(told).size === told.length,
    );
  }
  expect(service.output).toMatch(/ [1-9] scores did not reach LangSmith/);
});

test("without its backend, a command ends all the same, with two warnings", async () => {
  await backend.stop();
  const { exitCode, stdout, stderr } = await command(options("ask"), "How long are invoices kept?");
  expect(exitCode, stderr).toBe(0);
  expect(stdout).toContain("ten years");
  expect(stderr.match(/WARNING|ERROR/g)).toHaveLength(2);
  expect(stderr).not.toContain("Traceback");
});

// biome-ignore lint/suspicious/noExplicitAny: JSON
function read(attributes: Span["attributes"] | undefined, name: string): any {
  return JSON.parse(String(attributes?.[name]));
}

/** The spans of a request and of its run: LangSmith lists what stands at the root. */
function expectShown(attributes: Span["attributes"]) {
  expect(attributes["langsmith.span.kind"]).toBe("chain");
  const [asked, answered] = ["How long are invoices kept?", "Invoices are kept for ten years."];
  expect(read(attributes, "gen_ai.prompt")).toEqual({ messages: [{ role: "user", content: asked }] });
  expect(read(attributes, "gen_ai.completion")).toEqual({ messages: [{ role: "assistant", content: answered }] });
}

/** Where LangSmith's SDK would show the start of the run. */
async function page(spans: Span[]): Promise<string> {
  const started = spans.find(({ name }) => name === "start question")?.id ?? "";
  const { requests } = await backend.seen();
  const { id } = sent(requests, "/sessions?upsert=True").find(({ name }) => name === "questions");
  const tenant = "0b8f7d3e-5d0c-4c5e-9f0e-6f6c1a5b2d11";
  const run = `00000000-0000-0000-${started.slice(0, 4)}-${started.slice(4)}`;
  return `http://localhost/o/${tenant}/projects/p/${id}/r/${run}?poll=true`;
}

const EXAMPLES = `
import re
from inspect import getdoc
from textwrap import dedent

from langsmith import Client
from langsmith.integrations.otel import configure
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

def example(of):
    return dedent(re.search(r"^ *\`\`\`python\\n(.*?)\`\`\`", getdoc(of), re.DOTALL | re.MULTILINE)[1])

trace.set_tracer_provider(TracerProvider())
exec(example(configure))
tracer = trace.get_tracer("example")
with tracer.start_as_current_span("outer"), tracer.start_as_current_span("inner"):
    pass
trace.get_tracer_provider().shutdown()
exec(example(Client.create_feedback))
`;
