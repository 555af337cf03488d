import { USAGE } from "../../src/verify/model-server.ts";
import { type Seen, type Span, tree } from "../stack/backend.ts";
import { ANSWER, CALL, MODEL, RUN, SECRETS } from "../stack/script.ts";
import type { Combination } from "./combinations.ts";
import { expectSame } from "./expect-same.ts";

// What a project's observability tool sends for one question, held against what each tool has to tell of it.

const COST = (USAGE.prompt_tokens * 0.4 + USAGE.completion_tokens * 1.6) / 1e6;
const SESSION = "conversation-1";
const VENDOR_KEY = "vendor-key-4bd1";

interface Vendor {
  /** The settings of a project that sends to this address. */
  env: (url: string) => Record<string, string>;
  header: [name: string, value: string];
  /** Names of attributes; behind a space, that of a field in one that is JSON. */
  model: string;
  input: string;
  output: string;
  cost: string;
  /** What a search has found. */
  hits: string;
  /** What was asked and answered, on the spans of a request and of its run, and in which conversation. */
  shown: [asked: string, answered: string];
  session: string;
}

const VENDORS: Record<string, Vendor> = {
  logfire: {
    env: (url) => ({ LOGFIRE_BASE_URL: url, LOGFIRE_TOKEN: VENDOR_KEY }),
    header: ["authorization", VENDOR_KEY],
    model: "gen_ai.request.model",
    input: "gen_ai.usage.input_tokens",
    output: "gen_ai.usage.output_tokens",
    cost: "operation.cost",
    hits: "gen_ai.tool.call.result",
    shown: ["gen_ai.input.messages", "gen_ai.output.messages"],
    session: "gen_ai.conversation.id",
  },
  langfuse: {
    env: (url) => ({ LANGFUSE_BASE_URL: url, LANGFUSE_PUBLIC_KEY: "public", LANGFUSE_SECRET_KEY: VENDOR_KEY }),
    header: ["authorization", `Basic ${Buffer.from(`public:${VENDOR_KEY}`).toString("base64")}`],
    model: "langfuse.observation.model.name",
    input: "langfuse.observation.usage_details input",
    output: "langfuse.observation.usage_details output",
    cost: "langfuse.observation.cost_details total",
    hits: "langfuse.observation.output",
    shown: ["langfuse.observation.input", "langfuse.observation.output"],
    session: "session.id",
  },
  langsmith: {
    env: (url) => ({ LANGSMITH_ENDPOINT: url, LANGSMITH_API_KEY: VENDOR_KEY }),
    header: ["x-api-key", VENDOR_KEY],
    model: "gen_ai.request.model",
    input: "langsmith.usage_metadata input_tokens",
    output: "langsmith.usage_metadata output_tokens",
    cost: "langsmith.usage_metadata total_cost",
    hits: "gen_ai.completion documents",
    shown: ["gen_ai.prompt messages", "gen_ai.completion messages"],
    session: "langsmith.metadata.thread_id",
  },
  opik: {
    env: (url) => ({ OPIK_URL_OVERRIDE: `${url}/api`, OPIK_API_KEY: VENDOR_KEY }),
    header: ["authorization", VENDOR_KEY],
    model: "gen_ai.request.model",
    input: "gen_ai.usage.input_tokens",
    output: "gen_ai.usage.output_tokens",
    cost: "gen_ai.usage.cost",
    hits: "gen_ai.tool.call.result",
    shown: ["input", "output"],
    session: "thread_id",
  },
};

interface Api {
  path: string;
  body: (question: string) => object;
  /** The span of the request. */
  span: string;
  /** The conversation that it is a part of, where that can be told. */
  session?: string;
}

const APIS: Record<string, Api> = {
  fastapi: {
    path: "/ask?wait=120",
    body: (question) => ({ question, session: SESSION }),
    span: "POST /ask",
    session: SESSION,
  },
  fastmcp: {
    path: "/mcp",
    body: (question) => {
      const params = { name: "ask", arguments: { question, wait: 120 } };
      return { jsonrpc: "2.0", id: 1, method: "tools/call", params };
    },
    span: "tools/call ask",
  },
};

/** How a project with these tools is told to send, is asked, and what it has to send then. */
export class Wire {
  readonly #vendor: Vendor;
  readonly #api: Api;

  constructor({ observability = "", api = "" }: Combination) {
    const place = "in test/matrix/wire.ts";
    const answers = `what its service answers in test/stack/${observability}_api.py`;
    this.#vendor = known(VENDORS, observability, `what it sends to VENDORS ${place}, and ${answers}`);
    this.#api = known(APIS, api, `how it is asked to APIS ${place}`);
  }

  env(receiver: string): Record<string, string> {
    return { LLM_MODEL: MODEL, ...SECRETS, ...this.#vendor.env(receiver) };
  }

  async ask(service: string, question: string): Promise<string> {
    const headers = {
      "Content-Type": "application/json",
      Accept: "application/json, text/event-stream",
      Authorization: `Bearer ${SECRETS.API_KEY}`,
    };
    const body = JSON.stringify(this.#api.body(question));
    const signal = AbortSignal.timeout(180_000);
    const response = await fetch(service + this.#api.path, { method: "POST", headers, body, signal });
    return `${response.status} ${await response.text()}`;
  }

  /** Throws with what is wrong, where a question was all that was asked of the service that has sent this. */
  check({ requests, spans }: Seen, question: string): void {
    const [header, value] = this.#vendor.header;
    for (const { path, headers, body } of requests) {
      const { [header]: sent, ...others } = headers;
      expectSame(`the header ${header} of a request to ${path}`, sent, value);
      const leaked = [VENDOR_KEY, ...Object.values(SECRETS)].filter((secret) =>
        (path + JSON.stringify(others) + body).includes(secret),
      );
      expectSame(`secrets in a request to ${path}`, leaked, []);
    }
    // The samples may have been taken in meanwhile; and Logfire tells of a span when it begins, too.
    const ingestions = new Set(spans.filter(({ name }) => name === "start ingestion").map(({ trace }) => trace));
    const own = spans
      .filter(({ trace, attributes }) => !ingestions.has(trace) && attributes["logfire.span_type"] !== "pending_span")
      .sort((a, b) => a.start - b.start);
    expectSame("how many traces there are", new Set(own.map(({ trace }) => trace)).size, 1);
    expectSame("spans, each with those in it", tree(own), [{ [this.#api.span]: [{ "start question": [RUN] }] }]);
    const root = own.find(({ name }) => name === this.#api.span);
    expectSame("the parent of the request", root?.parent, "");
    for (const { name, attributes } of own.filter(({ name }) => [this.#api.span, "question"].includes(name))) {
      const [asked, answered] = this.#vendor.shown.map((shown) => JSON.stringify(read(attributes, shown)) ?? "");
      expectSame(`whether the span ${name} tells the question`, asked?.includes(question), true);
      expectSame(`whether the span ${name} tells the answer`, answered?.includes(ANSWER), true);
      expectSame(`the conversation on the span ${name}`, attributes[this.#vendor.session], this.#api.session);
    }
    for (const { attributes } of own.filter(({ name }) => CALL.includes(name))) {
      const { model, input, output, cost } = this.#vendor;
      const told = [model, input, output].map((name) => read(attributes, name));
      expectSame("the model and its tokens", told, [MODEL, USAGE.prompt_tokens, USAGE.completion_tokens]);
      expectSame("the cost, in dollars", Number(read(attributes, cost)).toFixed(9), COST.toFixed(9));
    }
    for (const { attributes } of own.filter(({ name }) => name === "execute_tool search_documents")) {
      const hits = JSON.stringify(read(attributes, this.#vendor.hits));
      if (!hits?.includes("sample/billing.md")) throw new Error(`the search has not found sample/billing.md: ${hits}`);
    }
  }
}

function known<Entry>(table: Record<string, Entry>, tool: string, missing: string): Entry {
  const entry = table[tool];
  if (entry === undefined) throw new Error(`There is no check of what ${tool} sends. Add ${missing}.`);
  return entry;
}

function read(attributes: Span["attributes"], name: string): unknown {
  const [attribute = "", field] = name.split(" ");
  const value = attributes[attribute];
  return field === undefined ? value : JSON.parse(String(value ?? "{}"))[field];
}
