import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { readTemplates } from "../../src/read-templates.ts";
import { allOf } from "../matrix/combinations.ts";
import { Wire } from "../matrix/wire.ts";
import type { Seen, Span } from "../stack/backend.ts";

test("each tool of the catalogue has a check of what it sends, and one without is told what to add", async () => {
  const { catalogue } = await readTemplates(join(import.meta.dirname, "../../templates"));
  for (const combination of allOf(catalogue)) expect(() => new Wire(combination)).not.toThrow();
  expect(() => new Wire({ observability: "spyglass", api: "fastapi" })).toThrow(
    /spyglass.* VENDORS in test\/matrix\/wire\.ts, .* test\/stack\/spyglass_api\.py/,
  );
  expect(() => new Wire({ observability: "logfire", api: "telegraph" })).toThrow(/telegraph.* APIS in/);
});

const [ASKED, ANSWERED] = ["gen_ai.input.messages", "gen_ai.output.messages"];
const SESSION = "gen_ai.conversation.id";

describe("the check of a trace", () => {
  const wire = new Wire({ observability: "logfire", api: "fastapi" });
  const { LOGFIRE_TOKEN: token = "", LLM_API_KEY: key = "" } = wire.env("");
  const usage = { "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20, "operation.cost": 0.000072 };

  /** What a tool sends that does all right, but for what a test changes in it. */
  function seen(change: (request: Seen["requests"][0], spans: Record<string, Span>) => unknown = () => {}): Seen {
    const spans: Record<string, Span> = {};
    const add = (id: string, parent: string, name: string, attributes: Span["attributes"] = {}) => {
      const start = Object.keys(spans).length;
      spans[id] = { trace: "t", id, parent, name, start, status: 0, attributes, resource: {}, events: [] };
    };
    const shown = {
      [ASKED]: '[{"content": "Why?"}]',
      [ANSWERED]: '[{"content": "Invoices are kept for ten years."}]',
      [SESSION]: "conversation-1",
    };
    add("request", "", "POST /ask", { ...shown });
    add("start", "request", "start question");
    add("run", "start", "question", { ...shown });
    for (const name of ["llm 1", "search_documents 1.1", "llm 2", "read_document 2.1", "llm 3"]) {
      const [kind] = name.split(" ");
      add(name, "run", name);
      if (kind === "llm")
        add(`${name} call`, name, "chat gpt-4.1-mini", { ...usage, "gen_ai.request.model": "gpt-4.1-mini" });
      else add(`${name} call`, name, `execute_tool ${kind}`, { "gen_ai.tool.call.result": "[sample/billing.md]" });
    }
    const headers = { authorization: token };
    const request = { method: "POST", path: "/v1/traces", headers, body: "spans", behaviour: "ok" };
    change(request, spans);
    return { requests: [request], spans: Object.values(spans) };
  }

  test("accepts a whole one", () => expect(() => wire.check(seen(), "Why?")).not.toThrow());

  test.each<[string, RegExp, Parameters<typeof seen>[0]]>([
    ["no authorization", /header authorization/, (request) => delete request.headers["authorization"]],
    ["a secret in a body", /secrets/, (request) => Object.assign(request, { body: `{"key": "${key}"}` })],
    ["the token in another header", /secrets/, (request) => Object.assign(request.headers, { other: token })],
    ["a second trace", /how many traces/, (_, spans) => Object.assign(spans["llm 1 call"] as Span, { trace: "u" })],
    ["a parent elsewhere", /each with those in it/, (_, spans) => Object.assign(spans["run"] as Span, { parent: "x" })],
    [
      "a root with a parent",
      /parent of the request/,
      (_, spans) => Object.assign(spans["request"] as Span, { parent: "x" }),
    ],
    ["no step", /each with those in it/, (_, spans) => delete spans["llm 2"]],
    ["no question", /POST \/ask tells the question/, (_, spans) => delete spans["request"]?.attributes[ASKED]],
    ["no answer", /question tells the answer/, (_, spans) => delete spans["run"]?.attributes[ANSWERED]],
    ["no conversation", /conversation on the span POST/, (_, spans) => delete spans["request"]?.attributes[SESSION]],
    ["no tokens", /tokens/, (_, spans) => delete spans["llm 2 call"]?.attributes["gen_ai.usage.input_tokens"]],
    ["no cost", /cost/, (_, spans) => delete spans["llm 2 call"]?.attributes["operation.cost"]],
    [
      "no hits",
      /not found/,
      (_, spans) => delete spans["search_documents 1.1 call"]?.attributes["gen_ai.tool.call.result"],
    ],
  ])("refuses %s", (_, why, change) => expect(() => wire.check(seen(change), "Why?")).toThrow(why));
});
