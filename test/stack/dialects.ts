import type { Call, Raw } from "../../src/verify/model-server.ts";
import { DONE, event, toolCall, USAGE } from "../../src/verify/model-server.ts";

// How the servers that the README names differ in what they stream, by their documentation and their issue trackers.

/** A model that calls two tools in its first turn, and answers in its second. */
interface Turn {
  call: Call;
  calls: [name: string, args: object][];
}

type Dialect = (turn: Turn) => Raw;

const delta = (delta: object, more: object = {}) => event([{ index: 0, delta, finish_reason: null }], more);
const finish = (finish_reason: string, more: object = {}) => event([{ index: 0, delta: {}, finish_reason }], more);

export const DIALECTS: Record<string, Dialect> = {
  /** The pieces of parallel calls carry an index; here they come mixed, and not in its order. */
  OpenAI: ({ calls }) => {
    const parts = calls.map(([name, args], i) => toolCall(name, JSON.stringify(args), `call_${i}`, i)).reverse();
    const mixed = Array.from({ length: Math.max(...parts.map(({ length }) => length)) }, (_, i) =>
      parts.flatMap((pieces) => pieces[i] ?? []),
    ).flat();
    return stream(
      delta({ role: "assistant", content: null, refusal: null }, { usage: null }),
      ...mixed.map((piece) => delta(piece, { usage: null })),
      finish("tool_calls", { usage: null }),
      event([], { usage: { ...USAGE, prompt_tokens_details: { cached_tokens: 40 } } }),
      DONE,
    );
  },
  /** Whole calls, a role in each delta, thoughts in between, and `stop` where others say `tool_calls`. */
  Ollama: ({ calls }) =>
    stream(
      delta({ role: "assistant", content: "", reasoning: "The user wants" }),
      delta({
        role: "assistant",
        content: "",
        tool_calls: calls.map((call, i) => whole(call, { id: `call_${i}`, index: 0 })),
      }),
      event([{ index: 0, delta: { role: "assistant", content: "" }, finish_reason: "stop" }]),
      event([], { usage: USAGE }),
      DONE,
    ),
  /** Thoughts under another name, and the usage so far in each chunk. */
  vLLM: ({ calls }) =>
    stream(
      delta({ role: "assistant", content: "" }, { usage: { ...USAGE, completion_tokens: 0 } }),
      delta({ reasoning_content: "The user wants" }, { usage: { ...USAGE, completion_tokens: 3 } }),
      ...calls.flatMap(([name, args], i) =>
        toolCall(name, JSON.stringify(args), `chatcmpl-tool-${i}`, i).map((piece) => delta(piece, { usage: USAGE })),
      ),
      finish("tool_calls", { usage: USAGE }),
      DONE,
    ),
  /** Comments while it waits, and what it charges. */
  OpenRouter: ({ calls }) =>
    stream(
      ": OPENROUTER PROCESSING\n\n",
      delta({ role: "assistant", content: "Let me look.", reasoning: null }, { provider: "OpenAI" }),
      ...calls.flatMap(([name, args], i) =>
        toolCall(name, JSON.stringify(args), `call_${i}`, i).map((piece) => delta(piece)),
      ),
      ": OPENROUTER PROCESSING\n\n",
      finish("tool_calls"),
      delta({ role: "assistant", content: "" }, { usage: { ...USAGE, cost: 0.0125, is_byok: false } }),
      DONE,
    ),
  /** No index, `stop`, usage in each chunk, and a signature that it wants to have back. */
  Gemini: ({ call, calls }) => {
    const earlier = call.messages.flatMap(({ tool_calls }) => tool_calls ?? []);
    if (earlier.length > 0 && earlier[0]?.extra_content === undefined) {
      const message = "Function call is missing a thought_signature in functionCall parts.";
      return (response) => {
        response.writeHead(400, { "Content-Type": "application/json" });
        response.end(JSON.stringify([{ error: { code: 400, message, status: "INVALID_ARGUMENT" } }]));
      };
    }
    const signature = { extra_content: { google: { thought_signature: "EoYCCoMC" } } };
    return stream(
      ...calls.map((whole_, i) =>
        delta(
          {
            role: "assistant",
            tool_calls: [whole(whole_, { id: `function-call-${i}`, ...(i === 0 ? signature : {}) })],
          },
          { usage: USAGE },
        ),
      ),
      event([{ index: 0, delta: { role: "assistant" }, finish_reason: "stop" }], { usage: USAGE }),
      DONE,
    );
  },
};

/** A call in one piece. */
export function whole([name, args]: [string, object], more: object): object {
  return { type: "function", function: { name, arguments: JSON.stringify(args) }, ...more };
}

export function stream(...parts: (string | Buffer)[]): Raw {
  return (response) => {
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    for (const part of parts) response.write(part);
    response.end();
  };
}
