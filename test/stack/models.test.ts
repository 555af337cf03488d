import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import {
  type Call,
  DONE,
  event,
  ModelServer,
  type Raw,
  type Reply,
  toolCall,
  USAGE,
} from "../../src/verify/model-server.ts";
import { DIALECTS, stream, whole } from "./dialects.ts";
import { command, makeFolder, type Run, Service } from "./service.ts";

// From a question over HTTP through a durable run and the real client to a server of the real protocol, which
// stumbles as real ones do. The question is the name of what goes wrong.

const project = inject("project");
/** Dollars for one call of USAGE. */
const PRICE = 100 * 0.15e-6 + 20 * 0.6e-6;
const TEXT = "Sie werden zehn Jahre lang aufbewahrt – 十年 🧾. They are kept for ten years, as the law demands.";
const SEARCH = { tool: "search_documents", arguments: { query: "How long are invoices kept?" } };
const READ: [string, object] = ["read_document", { source: "sample/billing.md", position: 0 }];

/** The answer, with a quote from what the model was shown. */
function answer({ messages }: Call) {
  const shown: { passage: number; text: string }[] = messages
    .filter(({ role, content }) => role === "tool" && content?.startsWith("["))
    .flatMap(({ content }) => JSON.parse(content ?? "[]"));
  const quotes = shown.flatMap(({ passage, text }) => {
    const quote = text.match(/They are kept for ten\s+years/)?.[0];
    return quote === undefined ? [] : [{ passage, quote }];
  });
  return { answered: true, text: TEXT, quotes: quotes.slice(0, 1) };
}

const hasSearched = ({ messages }: Call) =>
  messages.some(({ role, content }) => role === "tool" && content?.startsWith("["));
/** A model that looks the question up and answers it. */
const well = (call: Call): Reply => (hasSearched(call) ? { answer: answer(call) } : SEARCH);
const once = (reply: Reply) => (call: Call) => (call.attempt === 1 ? reply : well(call));
const always = (reply: Reply) => () => reply;

const refusal =
  (status: number, message: string, headers: Record<string, string> = {}): Raw =>
  (response) => {
    response.writeHead(status, { "Content-Type": "application/json", ...headers });
    response.end(JSON.stringify({ error: { message } }));
  };
const html =
  (status: number): Raw =>
  (response) => {
    response.writeHead(status, { "Content-Type": "text/html" }).end("<html><h1>Welcome to nginx!</h1></html>");
  };
const silent: Raw = () => {};
const drip: Raw = async (response) => {
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  while (!response.destroyed) {
    response.write(says("a"));
    await sleep(100);
  }
};
const breaks: Raw = async (response) => {
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  response.write(says("Invoices"));
  await sleep(100);
  response.destroy();
};

const says = (content: string) => event([{ index: 0, delta: { content }, finish_reason: null }]);
const deltas = (...all: object[]) => all.map((delta) => event([{ index: 0, delta, finish_reason: null }]));
const end = (finish_reason = "stop", usage: object = USAGE) =>
  event([{ index: 0, delta: {}, finish_reason }]) + event([], { usage }) + DONE;
const prose = (text: string) => stream(says(text), end());
const badly = (args: string, finish?: string) => stream(...deltas(...toolCall("answer", args, "call-1")), end(finish));
const calls = (...all: object[]) => stream(...deltas({ tool_calls: all }), end("tool_calls"));

interface Case {
  reply: (call: Call) => Reply;
  /** Of the first step. */
  attempts?: number;
  /** Requests that the server got. */
  asked: number;
  /** The run fails, and says this. */
  error?: RegExp;
  /** What the model was told last. */
  told?: RegExp;
  /** Milliseconds between the first request and the second, at the least. */
  gap?: number;
  result?: object;
}

const wait = (headers: Record<string, string>) => (call: Call) =>
  call.attempt === 1 ? refusal(429, "Slow down.", headers) : well(call);
const RETRIED = { attempts: 2, asked: 3 };
const TWICE = { attempts: 1, asked: 2 };

const CASES: Record<string, Case> = {
  "all is well": { reply: well, ...TWICE },
  // What passes by itself.
  "429 with Retry-After": { reply: wait({ "Retry-After": "2" }), ...RETRIED, gap: 2000 },
  "429 without Retry-After": { reply: wait({}), ...RETRIED },
  "500": { reply: once(refusal(500, "Oops.")), ...RETRIED },
  "no answer at all": { reply: once(silent), ...RETRIED },
  "an answer that drips": { reply: once(drip), ...RETRIED },
  "a connection that breaks": { reply: once(breaks), ...RETRIED },
  "a stream that ends early": { reply: once(stream(says("Invoices"))), ...RETRIED },
  "malformed JSON in the stream": { reply: once(stream(says("In"), "data: {oops\n\n", DONE)), ...RETRIED },
  "an error in the stream": {
    reply: once(stream(says("In"), `data: ${JSON.stringify({ error: { message: "overloaded" } })}\n\n`)),
    ...RETRIED,
  },
  // What does not.
  "503 for good": {
    reply: always(refusal(503, "Maintenance.")),
    attempts: 5,
    asked: 5,
    error: /ModelError: http:\S+ answered 503: Maintenance\.$/,
  },
  "no connection": {
    reply: always((response) => void response.destroy()),
    attempts: 5,
    asked: 5,
    error: /No connection to http:\S+: .* Is LLM_BASE_URL right\?$/,
  },
  "401": {
    reply: always(refusal(401, "Incorrect API key.")),
    attempts: 1,
    asked: 1,
    error: /answered 401: Incorrect API key\. LLM_API_KEY is missing or wrong\.$/,
  },
  "404": {
    reply: always(refusal(404, "model 'x' not found")),
    attempts: 1,
    asked: 1,
    error: /answered 404: model 'x' not found Are LLM_MODEL and LLM_BASE_URL right\?$/,
  },
  "400, too long": {
    reply: always(refusal(400, "This model's maximum context length is 4096 tokens.")),
    attempts: 1,
    asked: 1,
    error: /answered 400: This model's maximum context length is 4096 tokens\.$/,
  },
  "a web page with 404": { reply: always(html(404)), attempts: 1, asked: 1, error: /404.*LLM_BASE_URL right\?$/ },
  "a web page with 200": {
    reply: always(html(200)),
    attempts: 5,
    asked: 5,
    error: /sent no whole answer\. Is LLM_BASE_URL right\?$/,
  },
  "prose for good": {
    reply: always(prose("Ten years, as I recall.")),
    attempts: 1,
    asked: 2,
    error: /scripted calls no tools; LLM_MODEL has to\. It says: Ten years, as I recall\.$/,
  },
  "prose until the run is resumed": {
    reply: (call) => (call.attempt > 2 ? well(call) : prose("Ten years.")),
    attempts: 1,
    asked: 2,
    error: /scripted calls no tools/,
  },
  "a refusal": {
    reply: always(stream(...deltas({ refusal: "I can't help" }, { refusal: " with that." }), end())),
    attempts: 1,
    asked: 2,
    error: /It says: I can't help with that\.$/,
  },
  // What the model is told, and mends.
  "prose once": { reply: once(prose("Ten years.")), attempts: 1, asked: 3, told: /^Use the tools\./ },
  "nothing once": { reply: once(prose("")), attempts: 1, asked: 3, told: /^Use the tools\./ },
  "an answer cut off by a limit on tokens": {
    reply: once(badly('{"answered": true, "text": "Inv', "length")),
    attempts: 1,
    asked: 3,
    told: /^Use the tools\./,
  },
  "an unknown tool": {
    reply: once({ tool: "drop_tables", arguments: {} }),
    attempts: 1,
    asked: 3,
    told: /There is no tool 'drop_tables'\. The tools are: search_documents, read_document\./,
  },
  "malformed arguments": {
    reply: once(calls({ index: 0, id: "1", function: { name: "search_documents", arguments: '{"query": ' } })),
    attempts: 1,
    asked: 3,
    told: /These arguments do not fit search_documents/,
  },
  // What servers are free to do.
  "arguments of a megabyte, with what no database takes": {
    reply: once(calls(whole(["search_documents", { query: `invoices\0${" kept".repeat(200_000)}` }], { index: 0 }))),
    attempts: 1,
    asked: 2,
  },
  "an answer with words beside it": {
    reply: (call) =>
      call.turn === 1
        ? SEARCH
        : stream(says("Done. "), ...deltas(...toolCall("answer", JSON.stringify(answer(call)), "")), end()),
    ...TWICE,
  },
  "calls without ids or indexes": {
    reply: (call) =>
      call.turn === 1
        ? calls(whole(["search_documents", SEARCH.arguments], {}), whole(READ, {}))
        : calls(whole(["answer", answer(call)], {})),
    ...TWICE,
  },
  "characters that are split between packets": {
    reply: (call) => {
      if (call.turn === 1) return SEARCH;
      const bytes = Buffer.from(deltas(...toolCall("answer", JSON.stringify(answer(call)), "1")).join("") + end());
      return async (response) => {
        response.writeHead(200, { "Content-Type": "text/event-stream" });
        for (let start = 0; start < bytes.length; start += 97) {
          response.write(bytes.subarray(start, start + 97));
          await sleep(1);
        }
        response.end();
      };
    },
    ...TWICE,
  },
  // Limits.
  "tool calls without an end": {
    reply: always(SEARCH),
    attempts: 1,
    asked: 8,
    result: { stopped: "steps", cost_usd: expect.closeTo(8 * PRICE, 9) },
  },
  "dear calls": {
    reply: always(
      stream(
        ...deltas(...toolCall("search_documents", '{"query":"a"}', "1")),
        end("stop", { prompt_tokens: 9e6, completion_tokens: 1 }),
      ),
    ),
    attempts: 1,
    asked: 1,
    result: { stopped: "cost", cost_usd: expect.closeTo(9 * 0.15, 5) },
  },
};

let model: ModelServer;
let data: string;
let service: Service;
const runs = new Map<string, Promise<Run>>();

beforeAll(async () => {
  model = await ModelServer.start((call) => {
    const dialect = DIALECTS[call.question];
    if (!dialect) return CASES[call.question]?.reply(call) ?? LIMITS[call.question]?.reply(call) ?? well(call);
    return dialect({
      call,
      calls: call.turn === 1 ? [["search_documents", SEARCH.arguments], READ] : [["answer", answer(call)]],
    });
  });
  data = await makeFolder("data-");
  // All at once: most of them wait most of the time, and the tests below look at one after another.
  const questions = Object.keys(CASES);
  service = await Service.start({
    project,
    data,
    command: ["uv", "run", "my-app", "serve"],
    env: {
      ...model.env,
      LLM_MODEL: "gpt-4o-mini",
      LLM_TIMEOUT_SECONDS: "10",
      LOAD_SAMPLE: "true",
      WORKER_CONCURRENCY: `${questions.length}`,
    },
  });
  for (const question of questions) {
    const run = service.ask(question, 0).then(({ id }) => service.run(id, 200));
    run.catch(() => {});
    runs.set(question, run);
  }
});

afterAll(async () => {
  await service?.end();
  await model?.stop();
  await rm(data, { recursive: true, force: true });
});

/** By a process of its own, beside the service, with settings of its own. */
async function ask(question: string, env: Record<string, string>): Promise<Run> {
  const { stdout, stderr } = await command({ project, data, env }, "ask", question);
  const all = await service.call<(Run & { subject: string })[]>("GET", "/runs?limit=100");
  const run = all.find(({ subject }) => subject === question);
  if (!run) throw new Error(`no run: ${stdout}${stderr}`);
  return service.run(run.id);
}

const rows = (await readFile(join(project, "README.md"), "utf8"))
  .split("\n")
  .map((line) => line.split("|").map((cell) => cell.trim().replaceAll("`", "")))
  .filter(([, name]) => name !== undefined && name in DIALECTS);

const COSTS: Record<string, unknown> = {
  OpenAI: expect.closeTo(2 * (60 * 0.25e-6 + 40 * 0.025e-6 + 20 * 2e-6), 9), // 40 of the tokens are cached
  Ollama: null,
  vLLM: null,
  OpenRouter: 0.025,
  Gemini: expect.any(Number),
};

describe("the README's variables", () => {
  test("are those of the five providers", () => {
    expect(rows.map(([, name]) => name)).toEqual(Object.keys(DIALECTS));
  });

  test.each(rows)("%s%s", async (_, name = "", llmModel = "", url = "", key = "") => {
    const path = url === "" ? "/v1" : new URL(url).pathname;
    const env = { LLM_MODEL: llmModel, LLM_BASE_URL: model.origin + path, LLM_API_KEY: key };
    const run = await ask(name, env);
    expectAnswered(run);
    expect(run.result).toMatchObject({ cost_usd: COSTS[name] });
    const steps = run.steps.map((step) => `${step.name.split(" ")[0]} ${step.attempts}`).sort();
    expect(steps).toEqual(["llm 1", "llm 1", "read_document 1", "search_documents 1"]);
    for (const { body, headers } of model.asked(name)) {
      expect(headers.authorization).toBe(`Bearer ${key || "none"}`);
      expect(Object.keys(body).sort()).toEqual(["messages", "model", "stream", "stream_options", "tools"]);
      expect(JSON.stringify(body)).not.toContain("$defs");
    }
  });
});

function expectAnswered(run: Run): void {
  expect(run.error, `${run.error}\n${service.output}`).toBeNull();
  expect(run.result).toMatchObject({ text: TEXT, refused: false, citations: [{ source: "sample/billing.md" }] });
}

test.each(Object.entries(CASES))("%s", async (question, { attempts, asked, error, told, gap, result }) => {
  const run = await (runs.get(question) as Promise<Run>);
  const requests = model.asked(question);
  expect(requests.length, `${run.error}`).toBe(asked);
  expect(run.steps[0]).toMatchObject({ name: "llm 1", attempts });
  if (error) {
    expect(run.status).toBe("failed");
    expect(run.error).toMatch(error);
    return;
  }
  expect(run.status, `${run.error}`).toBe("succeeded");
  if (result) expect(run.result).toMatchObject(result);
  else {
    expectAnswered(run);
    // Each call that was answered is paid for.
    const answered = asked - ((attempts ?? 1) - 1);
    expect(run.result).toMatchObject({ cost_usd: expect.closeTo(answered * PRICE, 9) });
    expect(await streamed(run)).toBe(TEXT);
  }
  if (told) expect(requests[1]?.messages.at(-1)?.content).toMatch(told);
  if (gap) expect((requests[1]?.at ?? 0) - (requests[0]?.at ?? 0)).toBeGreaterThanOrEqual(gap);
});

test("a run that failed behind its last step is resumed with that step", async () => {
  const { id } = (await runs.get("prose until the run is resumed")) as Run;
  await service.call("POST", `/runs/${id}/resume`);
  const run = await service.run(id, 60);
  expectAnswered(run);
  expect(run.steps.slice(0, 2)).toMatchObject([{ attempts: 1 }, { attempts: 2 }]);
});

/** The text that those who follow a run see grow, since the last step began. */
async function streamed({ id }: Run): Promise<string> {
  const events = await (await service.request("GET", `/runs/${id}/events`)).text();
  let text = "";
  for (const event of events.split(/\r?\n\r?\n/)) {
    const [type, data] = [event.match(/^event: (.*)$/m)?.[1], event.match(/^data: (.*)$/m)?.[1] ?? "{}"];
    if (type === "step") text = "";
    if (type === "text") text += JSON.parse(data).text;
  }
  return text;
}

const LIMITS: Record<string, Case> = {
  "an error, then no answer": {
    reply: (call) => (call.attempt === 1 ? refusal(500, "Oops.") : silent),
    attempts: 2,
    asked: 2,
    result: { stopped: "time" },
  },
  "a wait that does not fit": {
    reply: wait({ "Retry-After": "30" }),
    attempts: 1,
    asked: 1,
    error: /answered 429: Slow down\. It says to wait for 30 s; AGENT_MAX_SECONDS allows less\.$/,
  },
  "turns that are slow": {
    reply: () => async (response) => {
      await sleep(2500);
      await stream(...deltas(...toolCall("search_documents", '{"query":"invoices"}', "1")), end())(response);
    },
    attempts: 1,
    asked: 2, // or 1, on a machine that is busy
    result: { stopped: "time", text: "No answer: the limit on time was reached first." },
  },
};

describe("AGENT_MAX_SECONDS holds for calls, attempts and the waits between them", () => {
  test.concurrent.each(Object.entries(LIMITS))("%s", async (question, { attempts, asked, error, result }) => {
    const run = await ask(question, { ...model.env, AGENT_MAX_SECONDS: "4" });
    expect(run.steps[0]?.attempts).toBe(attempts);
    expect(model.asked(question).length).toBeLessThanOrEqual(asked);
    if (error) expect(run.error).toMatch(error);
    else expect(run.result, `${run.error}`).toMatchObject(result ?? {});
  });
});
