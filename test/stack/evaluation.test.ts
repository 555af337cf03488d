import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { type Call, ModelServer, type Reply, USAGE } from "../../src/verify/model-server.ts";
import { Backend } from "./backend.ts";
import { script } from "./script.ts";
import { command, makeFolder } from "./service.ts";

const project = inject("project");
let data: string;

beforeAll(async () => {
  data = await makeFolder("data-");
});

afterAll(() => rm(data, { recursive: true, force: true }));

interface Report {
  results: {
    case: { question: string };
    run_id: string;
    answer: { text: string; input_tokens: number; output_tokens: number; cost_usd: number };
    verdict: { correct: boolean; grounded: boolean; reason: string };
    recall: number;
    rank: number | null;
    cost_usd: number | null;
  }[];
  summary: Record<string, number | null>;
  missed: string[];
}

async function evaluate(lines: (object | string)[], env: Record<string, string> = {}, ...options: string[]) {
  const file = join(data, "cases.jsonl");
  await writeFile(file, lines.map((line) => `${typeof line === "string" ? line : JSON.stringify(line)}\n`).join(""));
  return { file, ...(await command({ project, data, env }, "eval", file, ...options)) };
}

const KEPT = {
  question: "How long are invoices kept?",
  expected: ["ten years"],
  sources: ["sample/billing.md (Billing > Invoices)"],
};

test("the cases of a new project pass without a key", async () => {
  // Spans must not get into the document; the time is whatever else this machine does.
  const env = { EVAL_MAX_P95_SECONDS: "1000", TRACE_CONSOLE: "true" };
  const { exitCode, stdout, stderr } = await command({ project, data, env }, "eval", "--json");
  expect(exitCode, stderr).toBe(0);
  const { results, summary, missed }: Report = JSON.parse(stdout);
  expect(missed).toEqual([]);
  expect(summary).toMatchObject({ cases: results.length, grounded: 1, cost_usd: 0 });
  // The default limits are 0.9.
  expect(summary.correct).toBeGreaterThanOrEqual(0.9);
  expect(summary.recall).toBeGreaterThanOrEqual(0.9);
  expect(results.filter(({ case: { question } }) => question === KEPT.question)).toMatchObject([
    { run_id: expect.stringMatching(/^[\da-f-]{36}$/), rank: 1, recall: 1, verdict: { correct: true } },
  ]);
});

test("a table tells what fell short, and the exit code as well", async () => {
  const cases = [
    KEPT,
    { ...KEPT, sources: ["sample/billing.md", "sample/absent.md"] },
    { ...KEPT, sources: ["sample/billing.md (Billing > Absent)"], expected: ["eleven years"] },
    { ...KEPT, expected: ["TEN years", "eleven years"] },
    { question: KEPT.question, refused: true },
    { question: "Who is the chief executive?", refused: true },
  ];
  const { exitCode, stdout, stderr } = await evaluate(cases, { EVAL_MIN_CORRECT: "0.51", EVAL_MAX_P95_SECONDS: "0" });
  expect(exitCode, stderr).toBe(1);
  expect(Math.max(...stdout.split("\n").map((line) => line.length))).toBeLessThanOrEqual(80);
  const figures = Object.fromEntries(
    Array.from(stdout.matchAll(/^(\w+) +([\d.-]+)$/gm), ([, name, value]) => [name, value]),
  );
  expect(figures).toMatchObject({
    cases: "6",
    recall: "0.625",
    reciprocal_rank: "0.75",
    correct: "0.5",
    grounded: "1.0",
  });
  expect(stdout).toMatch(
    /^ +False +True +1 +[\d.]+ +How long are invoices kept\?\n +[\da-f-]{36}: It does not say: eleven years\.$/m,
  );
  expect(stdout.split("\n").slice(-3)).toEqual([
    "recall is below EVAL_MIN_RECALL",
    "correct is below EVAL_MIN_CORRECT",
    "p95_seconds is above EVAL_MAX_P95_SECONDS",
  ]);
});

test("a line that is no case is named, and nothing is run", async () => {
  const { exitCode, stdout, stderr, file } = await evaluate([KEPT, { ...KEPT, qestion: "Why?" }]);
  expect([exitCode, stdout]).toEqual([1, ""]);
  expect(stderr).toContain(`${file}:2: `);
  expect(stderr).toMatch(/qestion\s+Extra inputs are not permitted/);
});

test("a model judges, for its price and in the trace, and one that fails to is no pass", async () => {
  const judge = ({ question }: Call): Reply => {
    const { question: asked, expected, answer, quotes } = JSON.parse(question);
    expect([expected, answer, quotes.length]).toEqual([["a decade"], "Invoices are kept for ten years.", 1]);
    const verdict = asked.includes("well")
      ? { correct: true, grounded: false, reason: "It adds." }
      : { correct: "perhaps" };
    const message = { role: "assistant", content: JSON.stringify(verdict) };
    const choices = [{ index: 0, message, finish_reason: "stop" }];
    const whole = { id: "c", object: "chat.completion", created: 1, model: "judge", choices, usage: USAGE };
    return (response) => {
      response.writeHead(200, { "Content-Type": "application/json" }).end(JSON.stringify(whole));
    };
  };
  const backend = await Backend.start(inject("project"), "logfire");
  const model = await ModelServer.start((call) => ("response_format" in call.body ? judge(call) : script(call)));
  try {
    const cases = ["well", "badly"].map((how) => ({ question: `Judge ${how}: how long?`, expected: ["a decade"] }));
    // A name on the price list.
    const traces = { LOGFIRE_TOKEN: "token-4bd1", LOGFIRE_BASE_URL: backend.url };
    const env = { ...model.env, LLM_MODEL: "gpt-5-mini", EVAL_MIN_GROUNDED: "0", ...traces };
    const { exitCode, stdout, stderr } = await evaluate(cases, env, "--json");
    const { results, summary, missed }: Report = JSON.parse(stdout);
    const [judged, failed] = results;
    // One call to the judge has as many tokens as one to the model that answers, which is called three times.
    expect(judged?.cost_usd).toBeCloseTo(((judged?.answer.cost_usd ?? 0) * 4) / 3, 12);
    expect([failed?.cost_usd, summary.cost_usd]).toEqual([null, null]);
    expect(
      results.map(({ verdict }) => verdict),
      stderr,
    ).toEqual([
      { correct: true, grounded: false, reason: "It adds." },
      { correct: false, grounded: false, reason: expect.stringContaining("perhaps") },
    ]);
    expect(summary).toMatchObject({ correct: 0.5, grounded: 0, input_tokens: 600, output_tokens: 120 });
    expect([exitCode, missed]).toEqual([1, ["correct is below EVAL_MIN_CORRECT"]]);
    const calls = (await backend.seen()).spans.filter(({ attributes }) => "operation.cost" in attributes);
    const verdict = calls.find(({ attributes }) => `${attributes["gen_ai.output.messages"]}`.includes("It adds."));
    expect(verdict?.attributes).toMatchObject({ "gen_ai.response.model": "judge", "gen_ai.usage.input_tokens": 100 });
  } finally {
    await backend.stop();
    await model.stop();
  }
});
