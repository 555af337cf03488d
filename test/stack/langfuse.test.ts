import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { until } from "../../src/verify/holdings.ts";
import { type Span, tree } from "./backend.ts";
import { CALL, MODEL, QUESTION, READ, REFUSED, RUN, SEARCH, SECRETS } from "./script.ts";
import { command, embedded, Service } from "./service.ts";
import { projectWith } from "./stacks.ts";
import { authorized, type Run, traced } from "./traced.ts";

// What really leaves a project that has the keys of a Langfuse project, as Langfuse gets it.

const KEYS = { LANGFUSE_PUBLIC_KEY: "pk-lf-2c51", LANGFUSE_SECRET_KEY: "sk-lf-4bd1" };
const AUTHORIZATION = `Basic ${Buffer.from(Object.values(KEYS).join(":")).toString("base64")}`;
const TRACES = "/api/public/otel/v1/traces";

const project = await projectWith("--observability langfuse");
const { model, backend, data, options, serve, work } = await traced(project, "langfuse", (url) => ({
  ...KEYS,
  LANGFUSE_BASE_URL: url,
}));
let service: Service;
let worker: Service;

function ask(question: string, more: object = {}): Promise<Run> {
  return service.call("POST", "/ask?wait=60", { question, ...more }, authorized);
}

async function sent<T>(path: string): Promise<T[]> {
  return (await backend.seen()).requests.filter((request) => request.path === path).map(({ body }) => JSON.parse(body));
}

test("the backend of these tests understands Langfuse's own example", async () => {
  const env = { ...KEYS, LANGFUSE_BASE_URL: backend.url };
  const run = await command({ project, data, env, command: ["uv", "run", "python", "-c", EXAMPLE] });
  expect(run.exitCode, run.stderr).toBe(0);
  const { spans, requests } = await backend.seen();
  expect(tree(spans)).toEqual([{ "process-request": ["llm-response"] }]);
  expect(spans.map(observation)).toContainEqual({ type: "generation", "model.name": "gpt-3.5-turbo", output: SAID });
  expect(requests).toMatchObject([{ path: TRACES, headers: { authorization: AUTHORIZATION } }]);
});

test("a question on the command line is one trace, and its end tells where", async () => {
  const { exitCode, stdout, stderr } = await command(options("ask"), QUESTION);
  expect(exitCode, stderr).toBe(0);
  const { spans } = await backend.seen();
  const id = String(spans.find(({ name }) => name === "start question")?.attributes.run_id);
  const run = await backend.trace(id, ["question"]);
  expect(tree(run)).toEqual([{ ask: [{ "start question": [RUN] }] }]);
  for (const span of run.filter(({ name }) => ["ask", "question"].includes(name)))
    expect(observation(span), span.name).toMatchObject(SHOWN);
  expect(stdout).toContain(`Trace: ${page(run)}`);
});

test("dev sends what it has when it is ended, whichever of Ctrl-C and its own signal comes first", async () => {
  const dev = await Service.start(options("dev"));
  const run: Run = await dev.call("POST", "/ask?wait=60", { question: QUESTION }, authorized);
  for (const signal of ["SIGTERM", "SIGINT"] as const) dev.signalGroup(signal);
  await dev.ended;
  const spans = await backend.trace(run.id, ["question", "POST /ask"]);
  expect(tree(spans)).toEqual([{ "POST /ask": [{ "start question": [RUN] }] }]);
});

test("a question is one trace across processes: request, run, steps, calls to the model with tokens and cost", async () => {
  service = await serve({ WORKER_CONCURRENCY: "0" });
  worker = await work();
  const run = await ask(QUESTION, { session: "s-1", user: "u-1", tags: ["beta", "eu"] });
  expect(run.status).toBe("succeeded");
  const spans = await backend.trace(run.id, ["question", "POST /ask"]);
  expect(tree(spans)).toEqual([{ "POST /ask": [{ "start question": [RUN] }] }]);
  expect(new Set(spans.map(({ resource }) => resource["process.pid"])).size).toBe(2);
  expect(new Set(spans.map(({ resource }) => resource["langfuse.environment"]))).toEqual(new Set(["development"]));
  for (const { attributes } of spans.filter(({ name }) => name.startsWith("chat"))) {
    expect(attributes).toMatchObject({
      "langfuse.observation.type": "generation",
      "langfuse.observation.model.name": MODEL,
      "gen_ai.provider.name": "127.0.0.1",
      "gen_ai.response.model": "scripted",
      "langfuse.observation.input": expect.stringContaining(QUESTION),
      "langfuse.observation.output": expect.stringMatching(/search_documents|read_document|ten years/),
    });
    const { usage_details: usage, cost_details: cost } = observation({ attributes });
    expect(JSON.parse(String(usage))).toMatchObject({ input: 100, output: 20, total: 120 });
    expect(JSON.parse(String(cost)).total).toBeCloseTo((100 * 0.4 + 20 * 1.6) / 1e6, 9);
  }
  for (const { attributes } of spans.filter(({ name }) => name.startsWith("execute_tool"))) {
    const { type, input, output } = observation({ attributes });
    expect(type).toBe("tool");
    expect(JSON.parse(String(input))).toMatchObject(
      attributes["gen_ai.tool.name"] === "search_documents"
        ? { query: QUESTION }
        : { source: "sample/billing.md", position: 0 },
    );
    const hit = { source: "sample/billing.md", score: expect.any(Number), text: expect.any(String) };
    expect(JSON.parse(String(output))).toContainEqual(expect.objectContaining(hit));
  }
  for (const { name, attributes } of spans) {
    const who = { "session.id": "s-1", "user.id": "u-1", "langfuse.trace.tags": ["beta", "eu"] };
    expect(attributes, name).toMatchObject(who);
    if (["POST /ask", "question"].includes(name)) expect(observation({ attributes }), name).toMatchObject(SHOWN);
  }
  expect(run.trace_url).toBe(page(spans));
  const listed = await service.call("GET", "/runs?limit=1", undefined, authorized);
  expect(listed).toMatchObject([{ trace_url: run.trace_url }]);

  for (const helpful of [true, false]) {
    const feedback = { helpful, comment: "Short." };
    expect((await service.request("POST", `/runs/${run.id}/feedback`, feedback, authorized)).status).toBe(204);
  }
  const scores = await until("both scores", 30, async () => {
    const scores = (await sent<Record<string, unknown>[]>("/api/public/scores")).flat();
    return scores.length === 2 && scores;
  });
  const score = { traceId: spans[0]?.trace, name: "helpful", dataType: "BOOLEAN", comment: "Short." };
  expect(scores).toMatchObject([1, 0].map((value) => ({ ...score, value, environment: "development" })));
  expect(new Set(scores.map(({ id }) => id)).size).toBe(1); // the later one takes the place of the first
});

test("`eval` is an experiment on a dataset, the same one each time, and tells where", async () => {
  const cases = join(data, "cases.jsonl");
  const sources = ["sample/billing.md", "sample/handbook.md", "sample/incidents.txt"]; // to Python a set
  await writeFile(cases, `${JSON.stringify({ question: QUESTION, expected: ["ten years"], sources })}\n`);
  const links = [];
  for (const env of [{ PYTHONHASHSEED: "1" }, { PYTHONHASHSEED: "2" }]) {
    const more = { EVAL_JUDGE_MODEL: "none", EVAL_MIN_RECALL: "0", ...env };
    const { exitCode, stdout, stderr } = await command(options("eval", more), cases);
    expect([exitCode, stderr.match(/WARNING|ERROR|Traceback/)], stderr).toEqual([0, null]);
    links.push(stdout.match(/\S+\/experiments\/\S+/)?.[0]);
  }
  const items = await sent<{ id: string; input: object }>("/api/public/dataset-items");
  expect(new Set(items.map(({ id }) => id)).size).toBe(1);
  expect(items).toMatchObject([{ datasetName: "answers", input: { question: QUESTION } }, {}]);
  const { spans } = await backend.seen();
  const tasks = spans.filter(({ name }) => name === "experiment-item-task");
  const ids = tasks.map(({ attributes }) => attributes["langfuse.experiment.id"]);
  expect(links).toEqual(ids.map((id) => `${backend.url}/project/demo/experiments/results?baseline=${id}`));
  expect(new Set(ids).size).toBe(2);
  for (const { trace, id, attributes } of tasks) {
    expect(attributes).toMatchObject({ "langfuse.experiment.item.id": items[0]?.id });
    expect(spans.filter(({ parent }) => parent === id).map(({ name }) => name)).toContain("start question");
    const scores = (await sent<Record<string, unknown>[]>("/api/public/scores")).flat();
    const given = scores.filter(({ traceId }) => traceId === trace).map(({ name, value }) => [name, value]);
    expect(Object.fromEntries(given)).toMatchObject({ correct: 1, recall: expect.any(Number) });
  }
});

test("killed in mid-run, it goes on in the same trace", async () => {
  model.hold(2);
  const question = "How long are invoices kept? (killed)";
  const { id } = await service.call<Run>("POST", "/ask?wait=0", { question }, authorized);
  await until("the second turn", 30, async () => model.counts(question).length === 2);
  const ended = "search_documents 1.1";
  await until("told what ended", 30, async () => (await backend.begun(id)).some(({ name }) => name === ended));
  worker.signalGroup("SIGKILL");
  await worker.ended;
  worker = await work();
  await until("a second attempt after that", 60, async () => model.counts(question)[1] === 2);
  model.release();
  const run: Run = await service.call("GET", `/runs/${id}?wait=60`, undefined, authorized);
  expect(run.status, run.error ?? "").toBe("succeeded");
  const spans = await backend.trace(id, ["question"]);
  const carriedOn = { question: ["llm 1", ended, { "llm 2": CALL }, READ, { "llm 3": CALL }] };
  // What the process was in does not show. What had ended in it stands by itself.
  expect(tree(spans)).toEqual([{ "POST /ask": [{ "start question": [carriedOn] }] }, { "llm 1": CALL }, SEARCH]);
  expect(run.trace_url).toBe(page(spans));
});

test("without content, traces tell neither what was asked nor what was answered, and no error quotes it", async () => {
  const before = (await backend.seen()).spans.length;
  const failing = { TRACE_CONTENT: "false", LLM_BASE_URL: `${backend.url}/Rumpelstiltskin` };
  const failed = await command(options("ask", failing), "How long are invoices kept, Rumpelstiltskin?");
  expect([failed.exitCode, failed.stderr]).toEqual([1, expect.stringContaining("Rumpelstiltskin")]);
  const question = "How long are invoices kept, Rumpelstiltskin?";
  const { exitCode, stdout, stderr } = await command(options("ask", { TRACE_CONTENT: "false" }), question);
  expect([exitCode, stdout], stderr).toEqual([0, expect.stringContaining("ten years")]);
  const spans = (await backend.seen()).spans.slice(before);
  expect(new Set(spans.filter(({ name }) => name === `chat ${MODEL}`).map(({ status }) => status))).toContain(2);
  expect(JSON.stringify(spans)).not.toMatch(/Rumpelstiltskin|ten years/);
});

test("no secret leaves, but the keys in their header; nobody asks how the service is", async () => {
  const { exitCode, stderr } = await command(options("ask"), REFUSED);
  expect([exitCode, stderr]).toEqual([1, expect.stringContaining("Wrong key: Bearer ***")]);
  const { requests, spans } = await backend.seen();
  const own = requests.filter(({ path }) => path.startsWith("/api/public/"));
  const secrets = [...Object.values(SECRETS), KEYS.LANGFUSE_SECRET_KEY, new URL((await embedded(data)).url).password];
  for (const { headers, body } of own) {
    const { authorization, ...others } = headers;
    expect(authorization).toBe(AUTHORIZATION);
    for (const secret of secrets) expect(JSON.stringify(others) + body).not.toContain(secret);
  }
  const paths = ["projects", "scores", "v2/datasets", "dataset-items"].map((path) => `/api/public/${path}`);
  expect(new Set(own.map(({ path }) => path))).toEqual(new Set([TRACES, ...paths]));
  expect(JSON.stringify(spans)).toContain("Wrong key: Bearer ***");
  expect(spans.filter(({ name }) => /healthz|readyz/.test(name))).toEqual([]);
});

test("what finds the queue full is dropped, counted and told once, and holds up no question", async () => {
  await backend.behave("hang");
  const small = { OTEL_BSP_MAX_QUEUE_SIZE: "4", OTEL_BSP_MAX_EXPORT_BATCH_SIZE: "2" };
  const { exitCode, stdout, stderr } = await command(options("ask", small), QUESTION);
  expect([exitCode, stdout], stderr).toEqual([0, expect.stringContaining("ten years")]);
  expect(stderr.match(/[1-9]\d* spans and 0 scores did not reach Langfuse/g), stderr).toHaveLength(1);
  expect(stderr.match(/Queue full/g)?.length ?? 0, stderr).toBe(0);
  await backend.behave("ok");
});

test("a backend that refuses, talks nonsense or hangs holds up no answer, and the end tells what was lost", async () => {
  for (const behaviour of ["401", "429", "500", "garbage", "hang"]) {
    await backend.behave(behaviour);
    const run = await ask(`How long are invoices kept? (${behaviour})`);
    expect(run).toMatchObject({ status: "succeeded" });
    const feedback = await service.request("POST", `/runs/${run.id}/feedback`, { helpful: false }, authorized);
    expect(feedback.status).toBe(204);
    await until("it had its chance", 30, async () => (await backend.answered(behaviour)) > 0);
  }
  expect(await ask("How long are invoices kept? (hangs still)")).toMatchObject({ status: "succeeded" });

  // Nothing was released: it still hangs when they have to stop.
  const held = await service.holdings();
  for (const process of [service, worker]) process.signal("SIGTERM");
  expect(await service.left(held, 30)).toEqual([]);
  for (const { output } of [service, worker]) {
    expect(output).not.toContain("Traceback");
    expect(output.split("\n").filter((line) => /export|Langfuse/.test(line))).toEqual([
      expect.stringContaining("Traces do not reach Langfuse."),
      expect.stringMatching(/\d+ spans and \d+ scores did not reach Langfuse\./),
    ]);
  }
  expect(service.output).toMatch(/ [1-9] scores did not reach/);
});

test("without its backend, a command ends all the same, with two lines", async () => {
  await backend.stop();
  const { exitCode, stdout, stderr } = await command(options("ask"), QUESTION);
  expect([exitCode, stdout], stderr).toEqual([0, expect.stringContaining("ten years")]);
  expect(
    stderr.split("\n").filter((line) => /Langfuse|Traceback/.test(line)),
    stderr,
  ).toHaveLength(2);
});

function page(spans: Span[]): string {
  return `${backend.url}/project/demo/traces/${spans[0]?.trace}`;
}

/** What an observation of Langfuse's holds: attributes below its own prefix, without that. */
function observation({ attributes }: Pick<Span, "attributes">): Record<string, unknown> {
  const prefix = "langfuse.observation.";
  const own = Object.entries(attributes).filter(([name]) => name.startsWith(prefix));
  return Object.fromEntries(own.map(([name, value]) => [name.slice(prefix.length), value]));
}

/** What the spans of a request and of its run show; Langfuse lists what stands at the root. */
const SHOWN = { input: JSON.stringify(QUESTION), output: '"Invoices are kept for ten years."' };

const SAID = "Generated response";
const EXAMPLE = `
# env: LANGFUSE_PUBLIC_KEY, LANGFUSE_SECRET_KEY, LANGFUSE_BASE_URL
from langfuse import get_client

langfuse = get_client()

# Create a span using a context manager
with langfuse.start_as_current_observation(as_type="span", name="process-request") as span:
    # Your processing logic here
    span.update(output="Processing complete")

    # Create a nested generation for an LLM call
    with langfuse.start_as_current_observation(as_type="generation", name="llm-response", model="gpt-3.5-turbo") as generation:
        # Your LLM call logic here
        generation.update(output="Generated response")

# All spans are automatically closed when exiting their context blocks

# Flush events in short-lived applications
langfuse.flush()
`;
