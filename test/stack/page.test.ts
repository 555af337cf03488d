import { rm } from "node:fs/promises";
import axe from "axe-core";
import type { Browser, BrowserContext, Locator, Page } from "playwright-core";
import { afterAll, beforeAll, beforeEach, expect, inject, onTestFinished, test } from "vitest";
import { until } from "../../src/verify/holdings.ts";
import { type Call, ModelServer, type Reply } from "../../src/verify/model-server.ts";
import { openBrowser } from "./browser.ts";
import { collapse, makeFolder, Service } from "./service.ts";

const HELD = 25; // pieces of the answer: some of its text has come by then, and more is to come
const BEGINNING = "Here is what the documents say about it";
const ANSWER = `${BEGINNING}. ${"They say it at length. ".repeat(30)}`;
const HOSTILE = `<img src=x onerror="window.hacked=1"><script>window.hacked=1</` + "script>";
const KEY = "a schlüssel";

let model: ModelServer;
let data: string;
let options: { project: string; data: string; env: Record<string, string> };
let service: Service;
let browser: Browser;
let context: BrowserContext;
let page: Page;
const complaints: string[] = [];

beforeAll(async () => {
  model = await ModelServer.start(script);
  data = await makeFolder("data-");
  options = { project: inject("project"), data, env: { ...model.env, MAX_UPLOAD_BYTES: "100000" } };
  service = await Service.start(options);
  browser = await openBrowser();
  context = await browser.newContext({ reducedMotion: "reduce" });
  context.on("request", (request) => {
    if (new URL(request.url()).origin !== service.url) complaints.push(`a request to ${request.url()}`);
  });
  context.on("weberror", (error) => complaints.push(`${error.error()}`));
  context.on("console", (message) => {
    // That an answer is an error is told by the page itself; the tests look there.
    const isProtocol = message.text().startsWith("Failed to load resource");
    if (message.type() === "error" && !isProtocol) complaints.push(message.text());
  });
});

afterAll(async () => {
  await browser?.close();
  await service?.end();
  await model.stop();
  await rm(data, { recursive: true, force: true });
});

beforeEach(async () => {
  page = await context.newPage();
  await page.goto(service.url);
  await page.getByRole("button", { name: "How long are invoices kept?" }).waitFor();
  return async () => {
    model.release();
    await page.close();
    expect(complaints.splice(0)).toEqual([]);
  };
});

test("by keyboard alone: ask, watch the answer come, open a quote in its passage, ask on", async () => {
  await expectAccessible("at first");
  model.hold(2, HELD);
  await tabTo(page.getByLabel("Your question"));
  await page.keyboard.type("What is the rule?");
  await page.keyboard.press("Enter");
  await page.getByText(BEGINNING).waitFor();
  expect(await answer().getAttribute("aria-busy")).toBe("true");
  expect(await answer().textContent()).not.toContain(ANSWER.trim());
  await shows("llm 1 · done");
  await shows("search_documents 1.1 · done");
  await shows("llm 2 · running");
  await expectAccessible("while the answer comes");
  expect(await focused()).toBe("What is the rule?");

  model.release();
  await source().waitFor();
  expect(await answer().getAttribute("aria-busy")).toBe("false");
  expect((await answer().textContent())?.trim()).toBe(ANSWER.trim());
  await tabTo(source());
  await page.keyboard.press("Enter");
  const [found] = passages(model.calls.at(-1));
  expect(await page.getByRole("dialog").locator("mark").textContent()).toBe(collapse(found?.text ?? ""));
  await expectAccessible("with a passage");
  await page.keyboard.press("Escape");
  expect(await focused()).toMatch(/^1\. /);

  await page.getByLabel("Ask a follow-up").fill("And the exception?");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "And the exception?" }).waitFor();
  await until("answered", 20, async () => model.counts("And the exception?").length === 2);
  const roles = model.calls.at(-1)?.messages.map(({ role, content }) => (role === "user" ? content : role));
  expect(roles?.slice(1, 4)).toEqual(["What is the rule?", "assistant", "And the exception?"]);
  await source().nth(1).waitFor();
  await page.reload();
  await source().nth(1).waitFor();
  expect(await page.getByRole("heading", { level: 2 }).allTextContents()).toEqual(
    expect.arrayContaining(["What is the rule?", "And the exception?"]),
  );
});

test("on a narrow phone nothing scrolls sideways", async () => {
  await page.setViewportSize({ width: 320, height: 640 });
  await page.getByRole("button", { name: "How long are invoices kept?" }).click();
  await source().waitFor();
  const overflow = () => page.evaluate("document.documentElement.scrollWidth - innerWidth");
  expect(await overflow()).toBe(0);
  await source().click();
  await page.locator("mark").waitFor();
  expect(await overflow()).toBe(0);
});

test("a run is cancelled, and carried on", async () => {
  model.hold(2, HELD);
  await ask("Shall this end?");
  await page.getByText(BEGINNING).waitFor();
  await ask("Another?");
  await shows("Wait for the answer above, or cancel it.");
  await page.getByRole("button", { name: "Cancel" }).click();
  await shows("Cancelled");
  model.release();
  await page.getByRole("button", { name: "Resume" }).click();
  await source().waitFor();
  expect(model.counts("Shall this end?")).toEqual([1, 2]);
});

test("files are taken in or refused one by one, and nothing in them runs", async () => {
  const name = `<img src=x onerror="window.hacked=1">.md`;
  const text = (content: string) => ({ mimeType: "text/plain", buffer: Buffer.from(content) });
  await page.getByLabel("Upload files").setInputFiles([
    { name, ...text(`# ${HOSTILE}\n\nThe gate is violet. ${HOSTILE}\n`) },
    { name: "picture.png", ...text("PNG") },
    { name: "large.md", ...text("large ".repeat(20_000)) },
  ]);
  await shows(`${name}: ready as ${name}, 1 passages`);
  await shows(/picture\.png: .*\.png is not supported/);
  await shows(/large\.md: .*MAX_UPLOAD_BYTES/);
  await page.evaluate(`{
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File(["# Shed\\n\\nThe shed is blue."], "shed.md"));
    document.body.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true }));
  }`);
  await shows("shed.md: ready as shed.md, 1 passages");

  await ask(`Which colour has the gate? ${HOSTILE}`);
  await page.getByRole("button", { name: `1. ${name}` }).click();
  expect(await page.locator("mark").textContent()).toContain(`The gate is violet. ${HOSTILE}`);
  expect(await page.evaluate(`"hacked" in window`)).toBe(false);
  expect(await page.locator("img").count()).toBe(0);
});

test("what the server refuses is told in words", async () => {
  const refusals: [status: number, body: object | undefined, shown: string][] = [
    [422, { detail: "body.question: too long" }, "body.question: too long"],
    [429, undefined, "429 Too Many Requests"],
    [503, { detail: "The database does not answer." }, "The database does not answer."],
  ];
  for (const [status, json, shown] of refusals) {
    await page.route("**/ask?*", (route) => route.fulfill({ status, ...(json ? { json } : { body: "<h1>No</h1>" }) }));
    await ask("Anything?");
    await page.getByRole("alert").getByText(shown).waitFor();
    await page.unrouteAll();
  }
  await page.goto(`${service.url}/#no-such-run`);
  await shows("There is no run no-such-run.");
});

test("a run that fails says why, and a trace is linked to", async () => {
  const failed = { kind: "question", subject: "Why?", status: "failed", error: "BadRequestError: no such model" };
  const step = { number: 1, name: "llm 1", attempts: 5, started_at: "2026-01-01T00:00:00Z", error: "no such model" };
  const run = { ...failed, id: "1", steps: [step], trace_url: "https://traces.example/1" };
  await page.route("**/runs/1", (route) => route.fulfill({ json: run }));
  await page.goto(`${service.url}/#1`);
  await shows("Failed · BadRequestError: no such model");
  await shows("llm 1 · failed · 5 attempts · no such model");
  expect(await page.getByRole("link", { name: "Trace" }).getAttribute("href")).toBe(run.trace_url);
});

test("an answer that has a trace can be called helpful, and what the server says of that is shown", async () => {
  const result = { text: "It is.", citations: [], refused: false, model: "scripted" };
  const traced = { id: "1", kind: "question", subject: "Is it?", status: "succeeded", steps: [], result };
  await page.route("**/runs/1", (route) =>
    route.fulfill({ json: { ...traced, trace_url: "https://traces.example/1" } }),
  );
  await page.goto(`${service.url}/#1`);
  const sent: unknown[] = [];
  await page.route("**/runs/1/feedback", (route) => {
    sent.push(route.request().postDataJSON());
    return route.fulfill(sent.length > 1 ? { status: 204 } : { status: 422, json: { detail: "Set a token." } });
  });
  await page.getByRole("button", { name: "Not helpful" }).click();
  await shows("Set a token.");
  await page.getByRole("button", { name: "👍 Helpful" }).click();
  await shows("Noted.");
  expect(sent).toEqual([{ helpful: false }, { helpful: true }]);
  await expectAccessible("with feedback");
});

test("killed and reloaded in the middle, it goes on; and asks once for a key that the server wants by then", async () => {
  model.hold(2, HELD);
  await ask("Who survives?");
  await page.getByText(BEGINNING).waitFor();
  await page.reload();
  await page.getByRole("heading", { name: "Who survives?" }).waitFor();
  await page.getByText(BEGINNING).waitFor();

  const other = await context.newPage();
  onTestFinished(() => other.close());
  await other.goto(service.url);
  service.signalGroup("SIGKILL");
  await service.ended;
  await shows("The connection is lost. Trying again…");
  await ask("Is anybody there?", other);
  await other.getByRole("alert").getByText("The server does not answer.").waitFor();
  const port = Number(new URL(service.url).port);
  service = await Service.start({ ...options, env: { ...options.env, API_KEY: KEY }, port });

  await page.getByRole("heading", { name: "The server asks for its API key" }).waitFor();
  await expectAccessible("asking for the key");
  await giveKey("wrong");
  await page.getByRole("heading", { name: "The server refuses this API key" }).waitFor();
  await giveKey(KEY);
  await shows("llm 2 · running · 2 attempts");
  await page.getByText(BEGINNING).waitFor();
  model.release();
  await source().waitFor();
  expect((await answer().textContent())?.trim()).toBe(ANSWER.trim());
  await page.reload();
  await source().click();
  await page.locator("mark").waitFor();
  expect(await page.getByRole("heading", { name: /API key/ }).count()).toBe(0);
});

/** Looks something up, and answers at length with the first sentence that it found. */
function script({ question, turn, messages }: Call): Reply {
  if (turn === 1) return { tool: "search_documents", arguments: { query: question } };
  const [found] = passages({ messages });
  return { answer: { answered: true, text: ANSWER, quotes: [{ passage: 1, quote: found?.text }] } };
}

function passages(call?: Pick<Call, "messages">): { text: string }[] {
  return JSON.parse(call?.messages.at(-1)?.content ?? "[]");
}

async function ask(question: string, where = page): Promise<void> {
  await where.getByRole("textbox").fill(question);
  await where.getByRole("button", { name: "Ask" }).click();
}

async function giveKey(key: string): Promise<void> {
  await page.getByRole("dialog").locator("input").fill(key);
  await page.keyboard.press("Enter");
}

function answer(): Locator {
  return page.getByRole("article").last().locator("[aria-live]");
}

/** The first source of an answer. */
function source(): Locator {
  return page.getByRole("group", { name: "Sources" }).getByRole("button", { name: /^1\. / });
}

async function shows(text: string | RegExp): Promise<void> {
  await page.getByText(text).first().waitFor();
}

async function tabTo(target: Locator): Promise<void> {
  for (let presses = 0; (await page.locator(":focus").and(target).count()) === 0; presses++) {
    if (presses > 30) throw new Error(`no way by Tab to ${target}`);
    await page.keyboard.press("Tab");
  }
}

function focused(): Promise<string> {
  return page.evaluate("document.activeElement.textContent");
}

async function expectAccessible(when: string): Promise<void> {
  for (const colorScheme of ["light", "dark"] as const) {
    await page.emulateMedia({ colorScheme });
    const { violations } = await page.evaluate<{ violations: { id: string; nodes: { html: string }[] }[] }>(
      `${axe.source}; axe.run()`,
    );
    expect(violations.map(({ id, nodes }) => `${when}, ${colorScheme}: ${id} ${nodes[0]?.html}`)).toEqual([]);
  }
}
