import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { until } from "../../src/verify/holdings.ts";
import { environment } from "./environment.ts";

export interface Span {
  trace: string;
  id: string;
  parent: string;
  name: string;
  start: number;
  status: number; // 2: an error
  attributes: Record<string, string | number | string[]>;
  resource: Record<string, string | number>;
  events: { name: string; attributes: Record<string, string> }[];
}

export interface Seen {
  requests: { method: string; path: string; headers: Record<string, string>; body: string; behaviour: string }[];
  spans: Span[];
}

/** A backend of a vendor's, which keeps what it is sent. */
export class Backend {
  readonly url: string;
  readonly #process: ChildProcess;

  private constructor(url: string, process: ChildProcess) {
    this.url = url;
    this.#process = process;
  }

  static async start(project: string, vendor: string): Promise<Backend> {
    const receiver = spawn("uv", ["run", "python", join(import.meta.dirname, "otlp_receiver.py"), vendor], {
      cwd: project,
      env: environment(),
      stdio: ["pipe", "pipe", "inherit"],
    });
    const url = await new Promise<string>((resolve, reject) => {
      receiver.stdout.once("data", (text) => resolve(`${text}`.trim()));
      receiver.once("close", () => reject(new Error(`the backend of ${vendor} has ended`)));
    });
    return new Backend(url, receiver);
  }

  async behave(behaviour: string): Promise<void> {
    await fetch(`${this.url}/test/behave`, { method: "POST", body: behaviour });
  }

  async seen(): Promise<Seen> {
    return (await fetch(`${this.url}/test/seen`)).json() as Promise<Seen>;
  }

  /** How many requests got this treatment. */
  async answered(behaviour: string): Promise<number> {
    return (await this.seen()).requests.filter((request) => request.behaviour === behaviour).length;
  }

  /** The trace of a run, as soon as these have ended in it. */
  async trace(id: string, ended: string[]): Promise<Span[]> {
    return until(`the spans of run ${id}: ${ended}`, 60, async () => {
      const spans = await this.begun(id);
      return ended.every((name) => spans.some((span) => span.name === name)) && spans;
    });
  }

  /** What has begun in the trace of a run. Logfire tells it twice: when it begins, and when it ends. */
  async begun(id: string): Promise<Span[]> {
    const { spans } = await this.seen();
    const traces = new Set(spans.filter((span) => belongs(span, id)).map(({ trace }) => trace));
    if (traces.size > 1) throw new Error(`run ${id} has several traces: ${[...traces]}`);
    const own = spans.filter(({ trace }) => traces.has(trace));
    const [pending, ended] = [true, false].map((is) =>
      own.filter(({ attributes }) => (attributes["logfire.span_type"] === "pending_span") === is),
    ) as [Span[], Span[]];
    const open = pending
      .map((span) => ({
        ...span,
        id: span.parent,
        parent: String(span.attributes["logfire.pending_parent_id"]),
        name: `${span.name}, no end`,
      }))
      .filter((span) => !ended.some(({ id }) => id === span.id));
    return [...ended, ...open].sort((a, b) => a.start - b.start);
  }

  async stop(): Promise<void> {
    this.#process.stdin?.end();
    if (this.#process.exitCode === null) await new Promise((resolve) => this.#process.once("close", resolve));
  }
}

function belongs({ attributes }: Span, run: string): boolean {
  const names = ["run_id", "langsmith.metadata.run_id", "dbos.operation.workflow_id", "prefect.run.id"];
  return names.some((name) => attributes[name] === run);
}

export type Tree = string | { [name: string]: Tree[] };

/** Names, each with those in it. */
export function tree(spans: Span[]): Tree[] {
  const ids = new Set(spans.map(({ id }) => id));
  const within = (parent: string | undefined): Tree[] =>
    spans
      .filter((span) => (parent === undefined ? !ids.has(span.parent) : span.parent === parent))
      .map(({ id, name }) => {
        const inner = within(id);
        return inner.length > 0 ? { [name]: inner } : name;
      });
  return within(undefined);
}
