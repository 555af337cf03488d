import { once } from "node:events";
import { parse } from "node:path";
import { serveStdio } from "@modelcontextprotocol/server/stdio";
import { checkAllowed } from "../mcp/directories.ts";
import { makeServer } from "../mcp/server.ts";
import { makeOutput } from "../output.ts";
import { abortOnSignals } from "../signals.ts";

/** Serves one client until it closes stdin, or a signal comes. What is under way then is cancelled. */
export async function mcp(allow: string[]): Promise<void> {
  const signal = abortOnSignals();
  const allowed = checkAllowed(allow);
  // Where the commands that messages name are typed, nobody knows here: from the root they begin with a whole path.
  process.chdir(parse(process.cwd()).root);
  // Never as JSON: that would go to stdout.
  const { error: onBug } = makeOutput({ json: false, verbose: false });
  const connection = serveStdio(() => makeServer({ allow: allowed, onBug }));
  await Promise.race([once(process.stdin, "end"), once(process.stdin, "close"), once(signal, "abort")]);
  await connection.close();
}
