// A server that speaks OpenAI's chat completions and answers at once: first a search, then an answer.
import { createServer } from "node:http";

/** Listens on a free port. */
export async function startModel() {
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const piece of request.setEncoding("utf8")) body += piece;
    const { model, messages } = JSON.parse(body);
    const hasSearched = messages.some((/** @type {{ role: string }} */ { role }) => role === "tool");
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    /** @param {object[]} choices */
    const send = (choices, more = {}) => {
      const chunk = { id: "c", object: "chat.completion.chunk", created: 1, model, choices, ...more };
      response.write(`data: ${JSON.stringify(chunk)}\n\n`);
    };
    send([{ index: 0, delta: hasSearched ? ANSWER : SEARCH, finish_reason: null }]);
    send([{ index: 0, delta: {}, finish_reason: "tool_calls" }]);
    send([], { usage: { prompt_tokens: 100, completion_tokens: 20, total_tokens: 120 } });
    response.end("data: [DONE]\n\n");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  const environment = { LLM_MODEL: "at-once", LLM_API_KEY: "key", LLM_BASE_URL: `http://127.0.0.1:${port}/v1` };
  const stop = () => {
    server.closeAllConnections();
    server.close();
  };
  return { environment, stop };
}

const SEARCH = call("search_documents", { query: "How long are invoices kept?" });
const ANSWER = call("answer", { answered: true, text: "They are kept for ten years.", quotes: [] });

/** @param {string} name @param {object} args */
function call(name, args) {
  const id = `call-${name}`;
  return {
    role: "assistant",
    tool_calls: [{ index: 0, id, type: "function", function: { name, arguments: JSON.stringify(args) } }],
  };
}
