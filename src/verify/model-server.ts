import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

interface Message {
  role: string;
  content?: string;
  tool_calls?: { extra_content?: object }[];
}

export interface Call {
  question: string;
  /** From 1: how often the model was asked in this run, by the messages so far. */
  turn: number;
  /** From 1: how often this question was asked for an answer in all, each attempt counted. */
  attempt: number;
  messages: Message[];
  body: Record<string, unknown>;
  headers: IncomingHttpHeaders;
  /** Milliseconds. */
  at: number;
}

/** What the model says in a turn: calls of tools, an answer, or whatever a server may send instead. */
export type Reply = { tool: string; arguments: object } | { answer: object } | Raw;
export type Raw = (response: ServerResponse) => void | Promise<void>;

export const USAGE = { prompt_tokens: 100, completion_tokens: 20, total_tokens: 120 };

/** A server that speaks OpenAI's chat completions, with streams, tool calls and usage. It says what its script says. */
export class ModelServer {
  readonly calls: Call[] = [];
  readonly #server: Server;
  readonly #script: (call: Call) => Reply;
  readonly #held = new Map<number, { pieces: number; released: Promise<void> }>();
  #release = () => {};

  private constructor(script: (call: Call) => Reply) {
    this.#script = script;
    this.#server = createServer(async (request, response) => {
      let body = "";
      try {
        for await (const piece of request.setEncoding("utf8")) body += piece;
      } catch {
        return; // the client has gone
      }
      try {
        await this.#answer(JSON.parse(body), request.headers, response);
      } catch (error) {
        refuse(response, `${request.method} ${request.url} is more than this model knows: ${error}`);
      }
    });
  }

  static async start(script: (call: Call) => Reply): Promise<ModelServer> {
    const server = new ModelServer(script);
    await new Promise<void>((resolve) => server.#server.listen(0, "127.0.0.1", resolve));
    return server;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** The settings of a project that has this for its model. */
  get env(): Record<string, string> {
    return { LLM_MODEL: "scripted", LLM_API_KEY: "no-secret", LLM_BASE_URL: `${this.origin}/v1` };
  }

  /** From now on this turn of every run stays in the middle of its stream, after so many pieces, until `release`. */
  hold(turn: number, pieces = 0): void {
    const released = new Promise<void>((resolve) => {
      this.#release = resolve;
    });
    this.#held.set(turn, { pieces, released });
  }

  release(): void {
    this.#held.clear();
    this.#release();
  }

  asked(question: string): Call[] {
    return this.calls.filter((call) => call.question === question);
  }

  /** How often each turn of a run was asked for: [turn 1, turn 2, …]. */
  counts(question: string): number[] {
    const turns = this.asked(question).map((call) => call.turn);
    return Array.from({ length: Math.max(0, ...turns) }, (_, i) => turns.filter((turn) => turn === i + 1).length);
  }

  async stop(): Promise<void> {
    this.release();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(body: { model: string; messages: Message[] }, headers: IncomingHttpHeaders, response: ServerResponse) {
    const asked = body.messages.findLastIndex(({ role, content }) => role === "user" && !isReminder(content));
    const turn = body.messages.slice(asked).filter(({ role }) => role === "assistant").length + 1;
    const question = body.messages[asked]?.content ?? "";
    const attempt = this.asked(question).length + 1;
    const call = { question, turn, attempt, messages: body.messages, body, headers, at: Date.now() };
    const reply = this.#script(call);
    if (typeof reply === "function") {
      this.calls.push(call);
      await reply(response);
      return;
    }
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    response.write(event([{ index: 0, delta: { role: "assistant", content: null }, finish_reason: null }]));
    this.calls.push(call);
    const { tool, args } =
      "answer" in reply ? { tool: "answer", args: reply.answer } : { tool: reply.tool, args: reply.arguments };
    const held = this.#held.get(turn);
    for (const [index, delta] of toolCall(tool, JSON.stringify(args), `call-${turn}`).entries()) {
      if (index === held?.pieces) await held.released;
      response.write(event([{ index: 0, delta, finish_reason: null }]));
    }
    response.write(event([{ index: 0, delta: {}, finish_reason: "tool_calls" }]));
    response.end(event([], { usage: USAGE }) + DONE);
  }
}

export const DONE = "data: [DONE]\n\n";

/** One event of a stream. */
export function event(choices: object[], more: object = {}): string {
  const chunk = { id: "c", object: "chat.completion.chunk", created: 1, model: "scripted", choices, ...more };
  return `data: ${JSON.stringify(chunk)}\n\n`;
}

/** The arguments come in pieces, as from the real one. */
export function toolCall(name: string, args: string, id: string, index = 0): object[] {
  const [first, ...pieces] = args.match(/.{1,8}/gsu) ?? [];
  return [
    { tool_calls: [{ index, id, type: "function", function: { name, arguments: first ?? "" } }] },
    ...pieces.map((piece) => ({ tool_calls: [{ index, function: { arguments: piece } }] })),
  ];
}

/** What a project asks that its owner has changed, this may not understand. It is the project that hears of it. */
function refuse(response: ServerResponse, message: string): void {
  if (response.headersSent) response.destroy();
  else response.writeHead(400, { "Content-Type": "application/json" }).end(JSON.stringify({ error: { message } }));
}

/** Of the agent's: no question of a user. */
function isReminder(content = ""): boolean {
  return content.startsWith("Use the tools.");
}
