import type { Call, Reply } from "../../src/verify/model-server.ts";

export const MODEL = "gpt-4.1-mini"; // it has a price
export const QUESTION = "How long are invoices kept?";
/** The server of the model refuses this one, and repeats the key that it was sent. */
export const REFUSED = "How long are invoices kept? (refused)";
export const ANSWER = "Invoices are kept for ten years.";
export const SECRETS = { LLM_API_KEY: "llm-key-9f3e", API_KEY: "api-key-77aa" };

/** A model that searches, reads the document on from there, and then answers with what it was shown. */
export function script({ turn, messages, question, headers }: Call): Reply {
  if (question === REFUSED) {
    return (response) => {
      const error = { message: `Wrong key: ${headers.authorization}` };
      response.writeHead(401, { "Content-Type": "application/json" }).end(JSON.stringify({ error }));
    };
  }
  if (turn === 1) return { tool: "search_documents", arguments: { query: "How long are invoices kept?" } };
  if (turn === 2) return { tool: "read_document", arguments: { source: "sample/billing.md", position: 0 } };
  const passages: { passage: number; text: string }[] = messages
    .filter(({ role }) => role === "tool")
    .flatMap(({ content }) => JSON.parse(content ?? "[]"));
  const found = passages.find(({ text }) => QUOTE.test(text));
  return {
    answer: {
      answered: found !== undefined,
      text: ANSWER,
      quotes: found === undefined ? [] : [{ passage: found.passage, quote: found.text.match(QUOTE)?.[0] }],
    },
  };
}

const QUOTE = /They are kept for ten\s+years/;

export const CALL = [`chat ${MODEL}`];
export const SEARCH = { "search_documents 1.1": ["execute_tool search_documents"] };
export const READ = { "read_document 2.1": ["execute_tool read_document"] };
/** The spans of a run by this script: with two tools, each span with those in it. */
export const RUN = { question: [{ "llm 1": CALL }, SEARCH, { "llm 2": CALL }, READ, { "llm 3": CALL }] };
