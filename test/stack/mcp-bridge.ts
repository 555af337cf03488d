import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { createInterface } from "node:readline";
import { text } from "node:stream/consumers";

/** Serves a command that speaks MCP over stdio by HTTP, one process a session, for clients that know HTTP alone. */
export async function openBridge(command: string, args: string[], options: { cwd: string; env: NodeJS.ProcessEnv }) {
  const sessions = new Map<string, Session>();
  const all = new Set<Session>();
  const start = () => {
    const session = new Session(spawn(command, args, { ...options, stdio: ["pipe", "pipe", "inherit"] }));
    all.add(session);
    return session;
  };
  const server = createServer(async (request, response) => {
    const known = sessions.get(`${request.headers["mcp-session-id"]}`);
    if (request.method === "DELETE") return void response.writeHead(known === undefined ? 404 : 200).end();
    if (request.method !== "POST") return void response.writeHead(405).end();
    const message = JSON.parse(await text(request));
    const headers: Record<string, string> = {};
    if (message.method === "initialize") headers["mcp-session-id"] = randomUUID();
    // Since the protocol of 2026-07-28 there are none.
    const session = known ?? start();
    for (const id of Object.values(headers)) sessions.set(id, session);
    if (message.id === undefined || message.method === undefined) {
      session.send(message);
      return void response.writeHead(202).end();
    }
    response.writeHead(200, { "content-type": "text/event-stream", ...headers });
    session.ask(message, response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`,
    /** The exit codes of all processes. */
    close: async () => {
      const codes = await Promise.all([...all].map((session) => session.close()));
      server.closeAllConnections();
      server.close();
      return codes;
    },
  };
}

class Session {
  readonly #process: ChildProcess;
  readonly #open = new Map<unknown, ServerResponse>();

  constructor(process: ChildProcess) {
    this.#process = process;
    createInterface({ input: process.stdout as NodeJS.ReadableStream }).on("line", (line) => {
      const { id, method } = JSON.parse(line);
      // Notifications and requests go where a request is open.
      const [key, response] = (method === undefined ? [id, this.#open.get(id)] : [...this.#open][0]) ?? [];
      response?.write(`event: message\ndata: ${line}\n\n`);
      if (method !== undefined) return;
      this.#open.delete(key);
      response?.end();
    });
  }

  send(message: object): void {
    this.#process.stdin?.write(`${JSON.stringify(message)}\n`);
  }

  ask(message: { id?: unknown }, response: ServerResponse): void {
    this.#open.set(message.id, response);
    this.send(message);
  }

  async close(): Promise<number | null> {
    const exited = this.#process.exitCode === null ? once(this.#process, "exit") : [];
    this.#process.stdin?.end();
    await exited;
    return this.#process.exitCode;
  }
}
