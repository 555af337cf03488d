import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { ModelServer } from "../../src/verify/model-server.ts";
import { Program } from "./program.ts";
import type { Run } from "./service.ts";

/** A moment of a step: its function has not begun, is under way, has returned, or what it returned is recorded. */
export type Moment = "before" | "inside" | "unrecorded" | "recorded";
/** Inside, so many of its waits have passed: for a thread, a connection, or what a server says. */
export type Stop = [step: string, moment: Moment, waits: number];

/** What victim.py takes. Questions and documents are known by their labels; a question is its own. */
export interface Plan {
  /** Runs of all processes to work on at once; null: only those that the process starts. */
  concurrency: number | null;
  questions?: string[];
  uploads?: Record<string, [source: string, content: string]>;
  /** Where a run kills its process or, with `hold`, stands still. */
  stops?: Record<string, Stop>;
  hold?: boolean;
  /** Tell of each run that has ended. */
  report?: boolean;
}

/** What it tells. */
interface Line {
  what: "started" | "ran" | "stopped" | "ended";
  label: string;
  run: string;
  step: string;
  result: Run<unknown>;
  events: number[];
  passages: [position: number, text: string][];
}

/** Processes of an application, which share its data. */
export class Victims {
  readonly #project: string;
  readonly #data: string;
  readonly #model: ModelServer;
  #problem = "";

  constructor(project: string, data: string, model: ModelServer) {
    this.#project = project;
    this.#data = data;
    this.#model = model;
  }

  run(plan: Plan): Program {
    const argument = JSON.stringify({ ...plan, log: this.#log });
    const command = ["uv", "run", "python", join(import.meta.dirname, "victim.py"), argument];
    return new Program({ project: this.#project, data: this.#data, command, env: this.#model.env });
  }

  /** Runs a process that kills itself. */
  async die(plan: Plan): Promise<void> {
    const [label = ""] = Object.keys(plan.stops ?? {});
    const before = (await this.told("stopped", label)).length;
    const victim = this.run(plan);
    const timer = setTimeout(() => victim.signalGroup("SIGKILL"), 120_000);
    await victim.ended;
    clearTimeout(timer);
    if ((await this.told("stopped", label)).length === before) throw new Error(`${label}:\n${victim.output}`);
  }

  /** A process that works on what others have left until these have ended. Which have not, their outcomes tell. */
  async rescue(labels: string[], more: Partial<Plan> = {}, meanwhile?: (rescuer: Program) => Promise<void>) {
    const rescuer = this.run({ concurrency: 8, report: true, ...more });
    try {
      await meanwhile?.(rescuer);
      await this.untilEnded(labels, rescuer);
    } catch (error) {
      this.#problem = String(error);
    } finally {
      await rescuer.end();
    }
  }

  async untilEnded(labels: string[], rescuer: Program): Promise<void> {
    await rescuer.until("all have ended", 120, async () => {
      const ended = new Set((await this.told("ended")).map(({ run }) => run));
      const started = (await this.told("started")).filter(({ label }) => labels.includes(label));
      return started.length === labels.length && started.every(({ run }) => ended.has(run));
    });
  }

  async told(what: Line["what"], label?: string): Promise<Line[]> {
    const written = await readFile(this.#log, "utf8").catch(() => "");
    const lines: Line[] = written.split("\n").flatMap((line) => (line === "" ? [] : JSON.parse(line)));
    return lines.filter((line) => line.what === what && (label === undefined || line.label === label));
  }

  /** What has become of a run, and how often each of its steps has begun. */
  async outcome(label: string): Promise<Line & { ran: Record<string, number> }> {
    const [started] = await this.told("started", label);
    const ended = (await this.told("ended")).find(({ run }) => run === started?.run);
    if (!ended) throw new Error(`${label} has not ended\n${this.#problem}`);
    const ran: Record<string, number> = {};
    for (const { step } of await this.told("ran", label)) ran[step] = (ran[step] ?? 0) + 1;
    return { ...ended, ran };
  }

  get #log(): string {
    return `${this.#data}.log`;
  }
}
