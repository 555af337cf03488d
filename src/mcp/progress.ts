import type { ServerContext } from "@modelcontextprotocol/server";

/**
 * Work that tells the client what it is at. While one thing takes long, that is told again: many clients give up a minute
 * after the last word.
 */
export async function withProgress<T>(
  { mcpReq }: ServerContext,
  work: (tell: (label: string) => void) => Promise<T>,
): Promise<T> {
  const progressToken = mcpReq._meta?.progressToken;
  if (progressToken === undefined) return work(() => {});
  let progress = 0;
  let present = { label: "", since: 0 };
  const send = (message: string) => {
    progress += 1;
    const params = { progressToken, progress, message };
    // A client that has gone cancels the work; that is told elsewhere.
    mcpReq.notify({ method: "notifications/progress", params }).catch(() => {});
  };
  const again = () => send(`${present.label} … ${Math.round((Date.now() - present.since) / 1000)} s`);
  const timer = setInterval(again, INTERVAL_MS);
  try {
    return await work((label) => {
      present = { label, since: Date.now() };
      send(label);
    });
  } finally {
    clearInterval(timer);
  }
}

const INTERVAL_MS = 5000;
