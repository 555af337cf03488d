import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { until } from "../../src/verify/holdings.ts";
import { type Span, tree } from "./backend.ts";
import { CALL, MODEL, QUESTION, READ, REFUSED, RUN, SEARCH, SECRETS } from "./script.ts";
import { command, embedded, makeFolder, type Service } from "./service.ts";
import { projectWith } from "./stacks.ts";
import { authorized, type Run, traced } from "./traced.ts";

// What really leaves a project that sends its traces to Opik, as Opik gets it.

const KEY = { OPIK_API_KEY: "opik-key-4bd1" };

const project = await projectWith("--observability opik");
const { model, backend, data, options, serve, work } = await traced(project, "opik", (url) => ({
  ...KEY,
  OPIK_WORKSPACE: "team",
  OPIK_PROJECT_NAME: "demo",
  OPIK_ENVIRONMENT: "staging",
  OPIK_URL_OVERRIDE: `${url}/api`,
}));
let service: Service;
let worker: Service;

function ask(question: string, wait = 60): Promise<Run> {
  return service.call("POST", `/ask?wait=${wait}`, { question }, authorized);
}

// biome-ignore lint/suspicious/noExplicitAny: it is checked below
type Body = any;

/** What came in JSON at a path of Opik's API, as soon as there is some that fits. */
function told(path: string, fits: (body: Body) => boolean = () => true): Promise<Body[]> {
  return until(path, 30, async () => {
    const requests = (await backend.seen()).requests.filter((request) => request.path === `/api/v1/private/${path}`);
    const bodies = requests.map(({ body }) => JSON.parse(body)).filter(fits);
    return bodies.length > 0 && bodies;
  });
}

/** A trace as Opik has it: of each field, what it was told first. */
async function kept(spans: Span[], field: string) {
  await told("traces", (row) => row.id === uuid(spans) && field in row);
  return Object.assign({}, ...(await told("traces", ({ id }) => id === uuid(spans))).reverse());
}

test("the backend of these tests understands Opik's own example", async () => {
  const filled = EXAMPLE.replace("https://www.comet.com/opik", backend.url).replace(/<your-(\w+)[^>]*>/g, "$1");
  const { exitCode, stderr } = await command({
    project,
    data,
    env: {},
    command: ["uv", "run", "python", "-c", filled],
  });
  expect(exitCode, stderr).toBe(0);
  const { requests, spans } = await backend.seen();
  expect(requests).toMatchObject([
    {
      path: "/api/v1/private/otel/v1/traces",
      headers: { authorization: "api", "comet-workspace": "workspace", projectname: "project" },
    },
  ]);
  expect(tree(spans)).toEqual([{ chatbot_conversation: ["llm_completion"] }]);
  expect(spans.find(({ name }) => name === "llm_completion")?.attributes).toMatchObject({
    "gen_ai.request.model": "gpt-4",
    "gen_ai.usage.input_tokens": 10,
  });
});

test("a question on the command line is one trace, and its end tells where", async () => {
  const { exitCode, stdout, stderr } = await command(options("ask"), QUESTION);
  expect(exitCode, stderr).toBe(0);
  const { spans } = await backend.seen();
  const id = String(spans.find(({ name }) => name === "start question")?.attributes["run_id"]);
  const run = await backend.trace(id, ["question"]);
  expect(tree(run)).toEqual([{ ask: [{ "start question": [RUN] }] }]);
  for (const { name, attributes } of run.filter(({ name }) => ["ask", "question"].includes(name)))
    expect(attributes, name).toMatchObject(SHOWN);
  expect(stdout).toContain(`Trace: ${page(run)}`);
});

test("a question is one trace across processes: request, run, steps, calls to the model with tokens and cost", async () => {
  service = await serve({ WORKER_CONCURRENCY: "0" });
  worker = await work();
  const run = await ask(QUESTION);
  expect(run.status).toBe("succeeded");
  const spans = await backend.trace(run.id, ["question", "POST /ask"]);
  expect(tree(spans)).toEqual([{ "POST /ask": [{ "start question": [RUN] }] }]);
  const ids = new Map(spans.map((span) => [span.id, span.attributes["opik.span_id"]]));
  for (const { name, parent, attributes } of spans) {
    expect(attributes["opik.trace_id"], name).toBe(uuid(spans));
    expect(attributes["opik.parent_span_id"], name).toBe(ids.get(parent));
  }
  expect(new Set(ids.values()).size).toBe(spans.length);
  for (const { attributes } of spans.filter(({ name }) => name.startsWith("chat"))) {
    expect(attributes).toMatchObject({
      "gen_ai.operation.name": "chat",
      "gen_ai.request.model": MODEL,
      "gen_ai.response.model": "scripted",
      "gen_ai.usage.input_tokens": 100,
      "gen_ai.usage.output_tokens": 20,
      "gen_ai.usage.cost": expect.closeTo((100 * 0.4 + 20 * 1.6) / 1e6, 9),
      "gen_ai.input.messages": expect.stringContaining(QUESTION),
      "gen_ai.output.messages": expect.stringMatching(/tool_call|ten years/),
    });
  }
  for (const { attributes } of spans.filter(({ name }) => name.startsWith("execute_tool"))) {
    const { "gen_ai.tool.call.arguments": sent, "gen_ai.tool.call.result": found } = attributes;
    expect(JSON.parse(String(sent))).toMatchObject(
      attributes["gen_ai.tool.name"] === "search_documents"
        ? { query: QUESTION }
        : { source: "sample/billing.md", position: 0 },
    );
    const hit = { source: "sample/billing.md", score: expect.any(Number), text: expect.any(String) };
    expect(JSON.parse(String(found))).toContainEqual(expect.objectContaining(hit));
  }
  await kept(spans, "end_time");
  expect(await kept(spans, "output")).toMatchObject({
    project_name: "demo",
    environment: "staging",
    name: "POST /ask",
    input: { input: QUESTION },
    output: { output: "Invoices are kept for ten years." },
  });
  expect(run.trace_url).toBe(page(spans));
  const listed = await service.call("GET", "/runs?limit=1", undefined, authorized);
  expect(listed).toMatchObject([{ trace_url: run.trace_url }]);
});

test("who asked is on the trace and its spans, its score comes too, and a client's own trace does not hide it", async () => {
  const asked = { question: QUESTION, session: "s-1", user: "u-1", tags: ["beta", "eu"] };
  const headers = { ...authorized, traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" };
  const run: Run = await service.call("POST", "/ask?wait=60", asked, headers);
  const feedback = { helpful: true, comment: "Short." };
  expect((await service.request("POST", `/runs/${run.id}/feedback`, feedback, authorized)).status).toBe(204);
  const spans = await backend.trace(run.id, ["question", "POST /ask", "feedback: helpful"]);
  expect(spans.filter(({ parent }) => parent === "").map(({ name }) => name)).toEqual(["POST /ask"]);
  for (const { name, attributes } of spans.filter(({ name }) => !name.startsWith("feedback"))) {
    const on = { thread_id: "s-1", "opik.metadata.user": "u-1", "opik.tags": ["beta", "eu"] };
    expect(attributes, name).toMatchObject(on);
    if (["POST /ask", "question"].includes(name)) expect(attributes, name).toMatchObject(SHOWN);
  }
  const labels = { thread_id: "s-1", metadata: { user: "u-1" }, tags: ["beta", "eu"] };
  expect(await kept(spans, "thread_id")).toMatchObject(labels);
  const score = { id: uuid(spans), project_name: "demo", name: "helpful", value: 1, reason: "Short.", source: "sdk" };
  expect(await told("traces/feedback-scores")).toEqual([{ scores: [score] }]);
});

test("`eval` is an experiment on a dataset, which it finds again, and tells where", async () => {
  const cases = join(data, "cases.jsonl");
  const sources = ["sample/billing.md", "sample/account.md", "sample/privacy.md"];
  await writeFile(cases, `${JSON.stringify({ question: QUESTION, expected: ["ten years"], sources })}\n`);
  const limits = { EVAL_JUDGE_MODEL: "none", EVAL_MIN_RECALL: "0" };
  for (const time of [0, 1]) {
    const { exitCode, stdout, stderr } = await command(options("eval", limits), cases);
    expect(exitCode, stderr).toBe(0);
    const [experiment, linked] = [await told("experiments"), await told("experiments/items")].map((all) => all[time]);
    expect(experiment).toMatchObject({ dataset_name: "answers", project_name: "demo" });
    const dataset = "0190a1b2-0000-7000-8000-000000000001";
    const shown = `${backend.url}/team/experiments/${dataset}/compare?experiments=${encodeURIComponent(JSON.stringify([experiment.id]))}`;
    expect(stdout).toContain(shown);
    const [{ dataset_item_id, trace_id, experiment_id }] = linked.experiment_items;
    expect(experiment_id).toBe(experiment.id);
    expect(await told("traces", ({ id, name }) => id === trace_id && name === "evaluate answers")).toHaveLength(1);
    const [{ scores }] = await told("traces/feedback-scores", (body) => body.scores[0].id === trace_id);
    expect(scores).toContainEqual(expect.objectContaining({ id: trace_id, name: "correct", value: 1 }));
    expect((await told("datasets/items"))[time].items).toMatchObject([{ data: { input: { question: QUESTION } } }]);
    expect(dataset_item_id).toBe((await told("datasets/items"))[0].items[0].id);
  }
});

test("without content, traces tell neither what was asked nor what was answered, nor what went wrong", async () => {
  const before = await backend.seen();
  const off = options("ask", { TRACE_CONTENT: "false" });
  const { exitCode, stdout, stderr } = await command(off, `${QUESTION} Rumpelstiltskin`);
  expect([exitCode, stdout], stderr).toEqual([0, expect.stringContaining("ten years")]);
  const failing = await command({ ...off, command: ["uv", "run", "python", "-c", FAILING] });
  expect(failing.exitCode, failing.stderr).toBe(0);
  const after = await backend.seen();
  const spans = after.spans.slice(before.spans.length);
  expect(spans.map(({ name }) => name)).toEqual(expect.arrayContaining([`chat ${MODEL}`, "failing"]));
  const bodies = after.requests.slice(before.requests.length).map(({ body }) => body);
  expect(JSON.stringify([spans, bodies])).not.toMatch(/Rumpelstiltskin|ten years/);
});

test("with Prefect and FastMCP, a question is one trace as well, and without content tells nothing of it", async () => {
  const project = await projectWith("--observability opik --workflow prefect --api fastmcp");
  const folder = await makeFolder("data-");
  const before = await backend.seen();
  const off = { ...options("ask", { TRACE_CONTENT: "false" }), project, data: folder };
  const { exitCode, stderr } = await command(off, `${QUESTION} Rumpelstiltskin`);
  await rm(folder, { recursive: true, force: true });
  expect(exitCode, stderr).toBe(0);
  const after = await backend.seen();
  const spans = after.spans.slice(before.spans.length);
  const calls = spans.filter(({ name }) => name === CALL[0]);
  expect([calls.length, new Set(calls.map(({ trace }) => trace)).size]).toEqual([3, 1]);
  const own = spans.filter(({ trace }) => trace === calls[0]?.trace).sort((a, b) => a.start - b.start);
  expect(tree(own)).toEqual([{ ask: [{ "start question": [RUN] }] }]);
  const bodies = after.requests.slice(before.requests.length).map(({ body }) => body);
  expect(JSON.stringify([spans, bodies])).not.toMatch(/Rumpelstiltskin|ten years/);
}, 180_000);

test("killed in mid-run, it goes on in the same trace; each attempt at a step is a call of its own", async () => {
  model.hold(2);
  const question = `${QUESTION} (killed)`;
  const { id } = await ask(question, 0);
  await until("the second turn", 30, async () => model.counts(question).length === 2);
  const found = (span: Span) => span.name === "execute_tool search_documents";
  await until("told of the first", 30, async () => (await backend.begun(id)).some(found));
  worker.signalGroup("SIGKILL");
  await worker.ended;
  worker = await work({ LLM_TIMEOUT_SECONDS: "3" });
  await until("a second attempt after that", 60, async () => model.counts(question)[1] === 3);
  model.release();
  const run: Run = await service.call("GET", `/runs/${id}?wait=60`, undefined, authorized);
  expect(run.status, run.error ?? "").toBe("succeeded");
  const spans = await backend.trace(id, ["question"]);
  // What the process took along with it does not show. Steps that were recorded show again, but call nothing.
  const carriedOn = ["llm 1", "search_documents 1.1", { "llm 2": [...CALL, ...CALL] }, READ, { "llm 3": CALL }];
  const request = { "POST /ask": [{ "start question": [{ question: carriedOn }] }] };
  expect(tree(spans)).toEqual([request, { "llm 1": CALL }, SEARCH]);
  expect(run.trace_url).toBe(page(spans));
});

test("no secret leaves, but the key in its header; nobody asks how the service is", async () => {
  const { exitCode, stderr } = await command(options("ask"), REFUSED);
  expect([exitCode, stderr]).toEqual([1, expect.stringContaining("Wrong key: Bearer ***")]);
  const { requests, spans } = await backend.seen();
  const secrets = [...Object.values({ ...SECRETS, ...KEY }), new URL((await embedded(data)).url).password];
  for (const { path, headers, body } of requests.slice(1)) {
    const { authorization, ...others } = headers;
    expect([authorization, others["comet-workspace"]], path).toEqual([KEY.OPIK_API_KEY, "team"]);
    if (path.includes("/otel/")) expect(others["projectname"]).toBe("demo");
    for (const secret of secrets) expect(JSON.stringify(others) + body).not.toContain(secret);
  }
  expect(JSON.stringify(spans)).toContain("Wrong key: Bearer ***");
  expect(spans.filter(({ name }) => /healthz|readyz/.test(name))).toEqual([]);
});

test("a score that Opik refuses, while it takes the spans, is counted", async () => {
  const { exitCode, stderr } = await command({ ...options(""), command: ["uv", "run", "python", "-c", SCORING] });
  expect([exitCode, stderr], stderr).toEqual([0, expect.stringContaining("1 spans and scores have not reached Opik")]);
});

test("what finds the queue full is dropped, counted and told once, and holds up no question", async () => {
  await backend.behave("hang");
  const small = { OTEL_BSP_MAX_QUEUE_SIZE: "4", OTEL_BSP_MAX_EXPORT_BATCH_SIZE: "2" };
  const { exitCode, stdout, stderr } = await command(options("ask", small), QUESTION);
  expect([exitCode, stdout], stderr).toEqual([0, expect.stringContaining("ten years")]);
  expect(stderr.match(/\d+ spans and scores have not reached Opik/g), stderr).toHaveLength(1);
  expect(stderr.match(/Queue full/g)?.length ?? 0, stderr).toBe(0);
  await backend.behave("ok");
});

test("a backend that refuses, talks nonsense or hangs holds up no answer", async () => {
  for (const behaviour of ["429", "401", "500", "garbage", "hang"]) {
    await backend.behave(behaviour);
    const open = ask(`${QUESTION} (${behaviour})`);
    await until("it had its chance", 30, async () => (await backend.answered(behaviour)) > 0);
    expect(await open).toMatchObject({ status: "succeeded" });
  }
  expect(await ask(`${QUESTION} (hangs still)`)).toMatchObject({ status: "succeeded" });

  // Nothing was released: it still hangs when they have to stop.
  const held = await service.holdings();
  for (const process of [service, worker]) process.signal("SIGTERM");
  expect(await service.left(held, 30)).toEqual([]);
  for (const { output } of [service, worker]) {
    expect(output).not.toContain("Traceback");
    expect(output.split("\n").filter((line) => /export|Opik|OTLP/.test(line)).length, output).toBeLessThanOrEqual(2);
    expect(output).toMatch(/\d+ spans and scores have not reached Opik/);
  }
});

test("without its backend, a command ends all the same; without a key, spans are printed where that is asked for", async () => {
  await backend.stop();
  const refused = await command(options("ask"), QUESTION);
  expect([refused.exitCode, refused.stdout], refused.stderr).toEqual([0, expect.stringContaining("ten years")]);
  expect(refused.stderr).toMatch(/\d+ spans and scores have not reached Opik/);
  expect(refused.stderr).not.toContain("Traceback");
  const none = { OPIK_API_KEY: "", OPIK_URL_OVERRIDE: "", TRACE_CONSOLE: "true" };
  const printed = await command(options("ask", none), QUESTION);
  expect(printed.exitCode, printed.stderr).toBe(0);
  expect(printed.stderr).toContain(`"name": "chat ${MODEL}"`);
  expect(printed.stdout).not.toContain("Trace:");
});

function uuid(spans: Span[]): string {
  return String(spans[0]?.trace).replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

function page(spans: Span[]): string {
  const api = `${backend.url}/api/`;
  return `${api}v1/session/redirect/projects/?trace_id=${uuid(spans)}&path=${Buffer.from(api).toString("base64")}`;
}

const SCORING = `
import asyncio

from opentelemetry import propagate

from app import observability


async def main():
    async with observability.lifespan():
        carrier = {}
        with observability.span("asked"):
            propagate.inject(carrier)
        observability.score(carrier["traceparent"], " ", 1.0)


asyncio.run(main())
`;

/** What the spans of a request and of its run show. */
const SHOWN = { input: QUESTION, output: "Invoices are kept for ten years." };

const FAILING = `
import asyncio
from contextlib import suppress

from app import observability


async def main():
    async with observability.lifespan():
        with suppress(ValueError), observability.span("failing"):
            raise ValueError("Rumpelstiltskin")


asyncio.run(main())
`;

const EXAMPLE = String.raw`
# Dependencies: opentelemetry-exporter-otlp

import os
import time
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.semconv.resource import ResourceAttributes


# Configure OpenTelemetry

# For comet.com
os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "https://www.comet.com/opik/api/v1/private/otel"
os.environ["OTEL_EXPORTER_OTLP_HEADERS"] = "Authorization=<your-api-key>,Comet-Workspace=<your-workspace-name>,projectName=<your-project-name>"

# Configure the tracer provider
resource = Resource.create({
    ResourceAttributes.SERVICE_NAME: "opentelemetry-example"
})

# Create a tracer provider
tracer_provider = TracerProvider(resource=resource)

# Set up the OTLP HTTP exporter
otlp_exporter = OTLPSpanExporter()

# Add the exporter to the tracer provider
tracer_provider.add_span_processor(BatchSpanProcessor(otlp_exporter))

# Set the tracer provider
trace.set_tracer_provider(tracer_provider)

# Get a tracer
tracer = trace.get_tracer("example-tracer")

def main():
    # Simulate user request
    user_request = "What's the weather like today?"

    # Create a parent span representing the entire chatbot conversation
    with tracer.start_as_current_span("chatbot_conversation") as conversation_span:
        print(f"User request: {user_request}")

        # Add user request as an attribute to the parent span
        conversation_span.set_attribute("input", user_request)
        conversation_span.set_attribute("conversation.id", "conv_12345")
        conversation_span.set_attribute("conversation.type", "weather_inquiry")

        # Add thread ID as an attribute to the parent span to group related spans into
        # a single conversational thread
        conversation_span.set_attribute("thread_id", "user_12345")

        # Process the user request

        # Simulate initial processing
        time.sleep(0.2)

        # Create a child span for LLM generation using GenAI conventions
        with tracer.start_as_current_span("llm_completion") as llm_span:
            print("Generating LLM response...")

            # Create a prompt for the LLM
            llm_prompt = f"User question: {user_request}\n\nProvide a concise answer about the weather."

            # Add GenAI semantic convention attributes
            llm_span.set_attribute("gen_ai.operation.name", "completion")
            llm_span.set_attribute("gen_ai.system", "gpt")
            llm_span.set_attribute("gen_ai.request.model", "gpt-4")
            llm_span.set_attribute("gen_ai.response.model", "gpt-4")
            llm_span.set_attribute("gen_ai.request.input", llm_prompt)  # Add the prompt
            llm_span.set_attribute("gen_ai.usage.input_tokens", 10)  # Example token count
            llm_span.set_attribute("gen_ai.usage.output_tokens", 25)  # Example token count
            llm_span.set_attribute("gen_ai.usage.total_tokens", 35)   # Example token count
            llm_span.set_attribute("gen_ai.request.temperature", 0.7)
            llm_span.set_attribute("gen_ai.request.max_tokens", 100)

            # Simulate LLM thinking time
            time.sleep(0.5)

            # Generate chatbot response
            chatbot_response = "It's sunny with a high of 75°F in your area today!"

            # Set response in the LLM span
            llm_span.set_attribute("gen_ai.response.output", chatbot_response)

            print("LLM generation completed")

        # Back in parent span context
        conversation_span.set_attribute("output", chatbot_response)
        # Response has been generated

        print(f"Chatbot response: {chatbot_response}")

if __name__ == "__main__":
    main()

    # Ensure all spans are flushed before the program exits
    tracer_provider.shutdown()

    print("\nSpans have been sent to OpenTelemetry collector.")
    print("If you configured Comet.com, you can view the traces in your Comet project.")
`;
