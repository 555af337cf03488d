import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdir, mkdtemp, readFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { execa } from "execa";
import { inject } from "vitest";
import { environment } from "./environment.ts";
import { freePort, type Holdings, holdings, remains, until } from "./machine.ts";

interface Options {
  project: string;
  /** Where this service keeps what it keeps; a folder of its own, so that tests do not meet. */
  data: string;
  /** As typed in the project's folder. */
  command?: string[];
  env?: Record<string, string | undefined>;
  /** A free one, unless it must be that of an earlier service. */
  port?: number;
  /** To be run as this user. */
  uid?: number;
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

/** A service started from a terminal of its own, and spoken to over HTTP. */
export class Service {
  readonly url: string;
  readonly mark: string;
  output = "";
  readonly ended: Promise<number | null>;
  readonly #process: ChildProcess;
  readonly #data: string;

  private constructor(
    { project, data, command = ["uv", "run", "my-app", "dev"], env = {}, uid }: Options,
    port: number,
  ) {
    const id = randomUUID();
    this.mark = `STACK_TEST=${id}`;
    this.url = `http://127.0.0.1:${port}`;
    this.#data = data;
    const [program = "", ...args] = command;
    this.#process = spawn(program, args, {
      cwd: project,
      env: environment({ PORT: String(port), DATA_DIR: data, STACK_TEST: id, ...env }),
      detached: true, // a process group of its own, as a shell gives it
      stdio: ["ignore", "pipe", "pipe"],
      ...(uid === undefined ? {} : { uid, gid: uid }),
    });
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        this.output += text;
      });
    }
    this.ended = new Promise((resolve) => this.#process.on("close", (code) => resolve(code)));
  }

  /** Returns when it can answer or, without an address to be asked at, when it has printed `ready`. */
  static async start(options: Options & { ready?: string }): Promise<Service> {
    const service = new Service(options, options.port ?? (await freePort()));
    const { ready } = options;
    let gone = false;
    service.ended.then(() => {
      gone = true;
    });
    try {
      await until("ready", 120, async () => {
        if (gone) throw new Error("it ended");
        return ready === undefined ? service.isReady() : service.output.includes(ready);
      });
    } catch (error) {
      await service.end();
      throw new Error(`${error}\n${service.output}`);
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

  holdings(): Promise<Holdings> {
    return holdings(this.mark, [this.#data]);
  }

  /** As Ctrl-C does and `kill -9 -$PGID`: all processes of the group get it. */
  signalGroup(signal: NodeJS.Signals): void {
    if (this.#process.pid === undefined) throw new Error("it never started");
    process.kill(-this.#process.pid, signal);
  }

  /** As a supervisor does: the one process that it started gets it. */
  signal(signal: NodeJS.Signals): void {
    this.#process.kill(signal);
  }

  /** What is still held, some seconds after the service was told to go. */
  async left(held: Holdings, seconds = 15): Promise<string[]> {
    // Counted again, for what came up after `held` was taken.
    const all = async () => [...(await remains(held)), ...(await remains(await this.holdings()))];
    await until("gone", seconds, async () => (await all()).length === 0).catch(() => undefined);
    return [...new Set(await all())];
  }

  /** For the end of a test: whatever happened in it, nothing stays. */
  async end(): Promise<void> {
    const held = await this.holdings();
    for (const pid of held.processes.keys()) {
      // The keeper of the database goes by itself, after it has stopped the database.
      if (!(await isKeeperOrDatabase(pid))) killIfThere(pid);
    }
    if ((await this.left(held)).length === 0) return;
    for (const pid of (await this.holdings()).processes.keys()) killIfThere(pid);
    await sleep(200);
    throw new Error(`left behind:\n${(await remains(held)).join("\n")}\n${this.output}`);
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

async function isKeeperOrDatabase(pid: number): Promise<boolean> {
  const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
  return command.includes("postgres");
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {}
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
