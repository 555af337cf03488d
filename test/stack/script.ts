import type { Call, Reply } from "./model-server.ts";

/** A model that searches, reads the document on from there, and then answers with what it was shown. */
export function script({ turn, messages }: Call): Reply {
  if (turn === 1) return { tool: "search_documents", arguments: { query: "How long are invoices kept?" } };
  if (turn === 2) return { tool: "read_document", arguments: { source: "sample/billing.md", position: 0 } };
  const passages: { passage: number; text: string }[] = messages
    .filter(({ role }) => role === "tool")
    .flatMap(({ content }) => JSON.parse(content ?? "[]"));
  const found = passages.find(({ text }) => QUOTE.test(text));
  return {
    answer: {
      answered: found !== undefined,
      text: "Invoices are kept for ten years.",
      quotes: found === undefined ? [] : [{ passage: found.passage, quote: found.text.match(QUOTE)?.[0] }],
    },
  };
}

const QUOTE = /They are kept for ten\s+years/;
