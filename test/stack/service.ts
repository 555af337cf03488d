import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { execa } from "execa";
import { inject } from "vitest";
import { freePort } from "../../src/verify/holdings.ts";
import { environment } from "./environment.ts";
import { Program, type Options as ProgramOptions } from "./program.ts";

interface Options extends Omit<ProgramOptions, "command"> {
  command?: string[];
  /** A free one, unless it must be that of an earlier service. */
  port?: number;
}

interface Answer {
  text: string;
  refused: boolean;
  citations: { source: string; heading: string; quote: string }[];
}

interface Step {
  number: number;
  name: string;
  attempts: number;
  finished_at: string | null;
  error: string | null;
}

export interface Run<Result = Answer> {
  id: string;
  status: string;
  steps: Step[];
  result: Result;
  error: string | null;
}

export interface Document {
  id: string;
  source: string;
  content_hash: string;
  chunks: number;
}

/** A service, spoken to over HTTP. */
export class Service extends Program {
  readonly url: string;

  private constructor({ command = ["uv", "run", "my-app", "dev"], env = {}, ...rest }: Options, port: number) {
    super({ ...rest, command, env: { PORT: String(port), ...env } });
    this.url = `http://127.0.0.1:${port}`;
  }

  /** Returns when it can answer or, without an address to be asked at, when it has printed `ready`. */
  static async start(options: Options & { ready?: string }): Promise<Service> {
    const service = new Service(options, options.port ?? (await freePort()));
    const { ready } = options;
    try {
      await service.until("ready", 120, async () =>
        ready === undefined ? service.isReady() : service.output.includes(ready),
      );
    } catch (error) {
      await service.end();
      throw error;
    }
    return service;
  }

  /** While it restarts, its socket is open, but nobody answers there. */
  async isReady(): Promise<boolean> {
    const response = await fetch(`${this.url}/readyz`, { signal: AbortSignal.timeout(2000) }).catch(() => undefined);
    return response?.ok === true;
  }

  /** Whether it takes new connections; one that is open may be served to the end of all. */
  async isListening(): Promise<boolean> {
    const socket = connect(Number(new URL(this.url).port), "127.0.0.1");
    const listening = await new Promise<boolean>((resolve) => {
      socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    });
    socket.destroy();
    return listening;
  }

  async request(method: string, path: string, body?: string | object, headers: Record<string, string> = {}) {
    const content = typeof body === "object" ? JSON.stringify(body) : body;
    const type = typeof body === "object" ? "application/json" : "text/plain";
    return fetch(this.url + path, {
      method,
      headers: { ...(content === undefined ? {} : { "Content-Type": type }), ...headers },
      ...(content === undefined ? {} : { body: content }),
    });
  }

  /** The body of an answer that is no error. */
  async call<T>(method: string, path: string, body?: string | object, headers?: Record<string, string>): Promise<T> {
    const response = await this.request(method, path, body, headers);
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}\n${this.output}`);
    return response.json() as Promise<T>;
  }

  ask(question: string, wait = 60): Promise<Run> {
    return this.call("POST", `/ask?wait=${wait}`, { question });
  }

  put(source: string, content: string): Promise<Run<Document>> {
    return this.call("PUT", `/documents/${source}`, content);
  }

  run(id: string, wait = 0): Promise<Run> {
    return this.call("GET", `/runs/${id}?wait=${wait}`);
  }
}

/** A command of the project, as typed beside a running service or without one. */
export async function command(
  { project, data, env = {}, ...rest }: Options,
  ...args: string[]
): Promise<{ exitCode: number | undefined; stdout: string; stderr: string }> {
  const [program = "", ...first] = rest.command ?? ["uv", "run", "my-app"];
  const { exitCode, stdout, stderr } = await execa(program, [...first, ...args], {
    cwd: project,
    env: environment({ DATA_DIR: data, ...env }),
    extendEnv: false,
    reject: false,
    stdin: "ignore",
    ...(rest.uid === undefined ? {} : { uid: rest.uid, gid: rest.uid }),
  });
  return { exitCode, stdout, stderr };
}

/** The process id and the URL of the embedded PostgreSQL. */
export async function embedded(data: string): Promise<{ pid: number; url: string }> {
  const cluster = join(data, "postgres/cluster");
  const [pid, , , port] = (await readFile(join(cluster, "data/postmaster.pid"), "utf8")).split("\n");
  const password = (await readFile(join(cluster, "password"), "utf8")).trim();
  return { pid: Number(pid), url: `postgresql://postgres:${password}@127.0.0.1:${port}/postgres` };
}

/** Halts the embedded PostgreSQL with all its connections, until the function that it returns is called. */
export async function halt(data: string): Promise<() => void> {
  const { pid } = await embedded(data);
  process.kill(pid, "SIGSTOP"); // first, so that it starts no more
  const children = (await readFile(`/proc/${pid}/task/${pid}/children`, "utf8")).trim().split(" ").map(Number);
  const signal = (name: NodeJS.Signals) => {
    for (const each of [pid, ...children]) {
      try {
        process.kill(each, name);
      } catch {} // a connection that has ended meanwhile
    }
  };
  signal("SIGSTOP");
  return () => signal("SIGCONT");
}

/** Line breaks and indents, as one space: they mean nothing in prose. */
export function collapse(text: string): string {
  return text.replace(/\s+/g, " ").trim();
}

/** An empty folder where nothing that works in it escapes the last look of setup.ts. */
export function makeFolder(prefix: string): Promise<string> {
  return mkdtemp(join(inject("place"), prefix));
}

const KEEP = `
import sys
from pathlib import Path
from embedded.postgres import serve
with serve(Path(sys.argv[1])) as url:
    print(url(), flush=True)
    sys.stdin.read()
`;

/** A server as the user's own would be: run by somebody else. */
export async function serveDatabase(
  project: string,
  folder: string,
): Promise<{ url: string; stop: () => Promise<void> }> {
  await mkdir(folder, { recursive: true });
  const server = spawn("uv", ["run", "python", "-c", KEEP, folder], {
    cwd: project,
    env: environment(),
    stdio: ["pipe", "pipe", "inherit"],
  });
  const ended = new Promise((resolve) => server.on("close", resolve));
  const url = await new Promise<string>((resolve) => server.stdout.once("data", (text) => resolve(`${text}`.trim())));
  return {
    url,
    stop: async () => {
      server.stdin.end();
      await ended;
    },
  };
}
