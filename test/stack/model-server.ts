import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

interface Message {
  role: string;
  content?: string;
}

export interface Call {
  question: string;
  /** From 1: how often the model was asked in this run, by the messages so far. */
  turn: number;
  messages: Message[];
  headers: IncomingHttpHeaders;
}

/** What the model says in a turn: the call of a tool, or an answer. */
export type Reply = { tool: string; arguments: object } | { answer: object };

/** A server that speaks OpenAI's chat completions, with streams, tool calls and usage. It says what its script says. */
export class ModelServer {
  readonly calls: Call[] = [];
  readonly #server: Server;
  readonly #script: (call: Call) => Reply;
  readonly #held = new Map<number, Promise<void>>();
  #release = () => {};

  private constructor(script: (call: Call) => Reply) {
    this.#script = script;
    this.#server = createServer(async (request, response) => {
      let body = "";
      for await (const piece of request.setEncoding("utf8")) body += piece;
      await this.#answer(JSON.parse(body), request.headers, response);
    });
  }

  static async start(script: (call: Call) => Reply): Promise<ModelServer> {
    const server = new ModelServer(script);
    await new Promise<void>((resolve) => server.#server.listen(0, "127.0.0.1", resolve));
    return server;
  }

  /** The settings of a project that has this for its model. */
  get env(): Record<string, string> {
    const { port } = this.#server.address() as AddressInfo;
    return { LLM_MODEL: "scripted", LLM_API_KEY: "key", LLM_BASE_URL: `http://127.0.0.1:${port}/v1` };
  }

  /** From now on this turn of every run stays without an end, in the middle of its stream, until `release`. */
  hold(turn: number): void {
    this.#held.set(
      turn,
      new Promise((resolve) => {
        this.#release = resolve;
      }),
    );
  }

  release(): void {
    this.#held.clear();
    this.#release();
  }

  /** How often each turn of a run was asked for: [turn 1, turn 2, …]. */
  counts(question: string): number[] {
    const turns = this.calls.filter((call) => call.question === question).map((call) => call.turn);
    return Array.from({ length: Math.max(0, ...turns) }, (_, i) => turns.filter((turn) => turn === i + 1).length);
  }

  async stop(): Promise<void> {
    this.release();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(body: { model: string; messages: Message[] }, headers: IncomingHttpHeaders, response: ServerResponse) {
    const asked = body.messages.findLastIndex(({ role }) => role === "user");
    const turn = body.messages.slice(asked).filter(({ role }) => role === "assistant").length + 1;
    const call = { question: body.messages[asked]?.content ?? "", turn, messages: body.messages, headers };
    const reply = this.#script(call);
    const send = (choices: object[], more: object = {}) => {
      const chunk = { id: "c", object: "chat.completion.chunk", created: 1, model: body.model, choices, ...more };
      response.write(`data: ${JSON.stringify(chunk)}\n\n`);
    };
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    send([{ index: 0, delta: { role: "assistant", content: null }, finish_reason: null }]);
    this.calls.push(call);
    await this.#held.get(turn);
    const deltas = "answer" in reply ? words(reply.answer) : toolCall(reply.tool, reply.arguments, turn);
    for (const delta of deltas) send([{ index: 0, delta, finish_reason: null }]);
    send([{ index: 0, delta: {}, finish_reason: "answer" in reply ? "stop" : "tool_calls" }]);
    send([], { usage: { prompt_tokens: 100, completion_tokens: 20, total_tokens: 120 } });
    response.end("data: [DONE]\n\n");
  }
}

function words(answer: object): object[] {
  return (JSON.stringify(answer).match(/.{1,20}/gs) ?? []).map((content) => ({ content }));
}

/** The arguments come in pieces, as from the real one. */
function toolCall(name: string, args: object, turn: number): object[] {
  const [first, ...pieces] = JSON.stringify(args).match(/.{1,8}/gs) ?? [];
  const start = { index: 0, id: `call-${turn}`, type: "function", function: { name, arguments: first } };
  return [
    { tool_calls: [start] },
    ...pieces.map((piece) => ({ tool_calls: [{ index: 0, function: { arguments: piece } }] })),
  ];
}
