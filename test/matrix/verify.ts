import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { Backend } from "../stack/backend.ts";
import { freePort, holdings, remains, until } from "../stack/machine.ts";
import { ModelServer } from "../stack/model-server.ts";
import { Program } from "../stack/program.ts";
import { script } from "../stack/script.ts";
import type { Combination } from "./combinations.ts";
import { expectSame } from "./expect-same.ts";
import { Wire } from "./wire.ts";

/** What is verified of a project, in this order. */
export const PHASES = [
  "install",
  "lint",
  "types",
  "tests",
  "start",
  "ask",
  "kill",
  "recover",
  "stop",
  "trace",
] as const;
export type Phase = (typeof PHASES)[number];

export interface Subject {
  combination: Combination;
  project: string;
  /** Its name, which is that of its command too. */
  name: string;
  /** What the project writes meanwhile goes below this. */
  place: string;
  /** What mypy found out about packages goes there, and is used again. No two at once may share it. */
  cache: string;
  /** All of them, unless told otherwise. */
  phases?: readonly Phase[];
  /** Ends it early, with nothing left running. */
  signal: AbortSignal;
  onOutcome?: ((outcome: Outcome) => void) | undefined;
}

export interface Outcome {
  phase: string;
  /** "left out": what had to come before it failed. */
  result: "passed" | "failed" | "left out";
  seconds: number;
  /** Why it failed: what was expected, and all that was printed. */
  output: string;
}

export interface Report {
  outcomes: Outcome[];
  /** All commands, and what they printed. */
  transcript: string;
}

/** Goes through the phases. What fails is an outcome, and no error; when this returns, nothing of the project runs. */
export async function verify({ phases = PHASES, onOutcome, ...subject }: Subject): Promise<Report> {
  const outcomes: Outcome[] = [];
  const tell = (outcome: Outcome) => {
    outcomes.push(outcome);
    onOutcome?.(outcome);
  };
  const verification = await Verification.begin(subject);
  for (const phase of PHASES.filter((each) => phases.includes(each))) {
    const failed = outcomes.some(({ result, phase }) => result !== "passed" && !INDEPENDENT.includes(phase));
    const outcome = failed ? leftOut(phase) : await clock(phase, () => verification[phase]());
    if (subject.signal.aborted) break;
    tell(outcome);
  }
  const ended = await clock("end", () => verification.end());
  if (ended.result === "failed") tell(ended);
  return { outcomes, transcript: verification.transcript() };
}

export async function clock(phase: string, work: () => Promise<void>): Promise<Outcome> {
  const started = performance.now();
  const outcome = (result: Outcome["result"], output = "") => {
    return { phase, result, seconds: (performance.now() - started) / 1000, output };
  };
  try {
    await work();
    return outcome("passed");
  } catch (error) {
    return outcome("failed", error instanceof Error ? error.message : String(error));
  }
}

/** Runs a command to its end. Throws with what it printed, when that is no success. */
export async function complete(program: Program, what: string, seconds: number): Promise<string> {
  const timer = setTimeout(() => kill(program), seconds * 1000);
  const exitCode = await program.ended;
  clearTimeout(timer);
  if (exitCode === 0) return program.output;
  const how = exitCode === null ? `was killed, after ${seconds} seconds at most` : `ended with exit code ${exitCode}`;
  throw new Error(`${what} ${how}:\n${program.output}`);
}

/** With all that it started in its process group. One that has ended is no concern. */
function kill(program: Program): void {
  try {
    program.signalGroup("SIGKILL");
  } catch {}
}

/** Ends what works below a folder, the databases that servers have started included. */
export async function clear(folder: string): Promise<void> {
  const isEmpty = async () => (await holdings(undefined, [folder])).processes.size === 0;
  // An embedded database is stopped by its keeper, when what it was started for is gone.
  await until("ended by themselves", 15, isEmpty).catch(() => undefined);
  await until("ended", 15, async () => {
    for (const pid of (await holdings(undefined, [folder])).processes.keys()) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {}
    }
    return isEmpty();
  });
}

/** Failures in these say nothing about the phases after them. */
const INDEPENDENT: readonly string[] = ["lint", "types", "tests"] satisfies Phase[];

const QUESTION = "How long are invoices kept?";
const INTERRUPTED = `${QUESTION} (interrupted)`;
const STEPS = ["llm 1", "search_documents 1.1", "llm 2", "read_document 2.1", "llm 3"];

class Verification {
  readonly #subject: Omit<Subject, "phases" | "onOutcome">;
  readonly #model: ModelServer;
  readonly #programs: Program[] = [];
  readonly #kill = () => this.#programs.forEach(kill);
  #service: Program | undefined;
  #url = "";
  #run = "";

  private constructor(subject: Omit<Subject, "phases" | "onOutcome">, model: ModelServer) {
    this.#subject = subject;
    this.#model = model;
    subject.signal.addEventListener("abort", this.#kill);
  }

  static async begin(subject: Omit<Subject, "phases" | "onOutcome">): Promise<Verification> {
    await mkdir(join(subject.place, "tmp"), { recursive: true });
    return new Verification(subject, await ModelServer.start(script));
  }

  async end(): Promise<void> {
    this.#subject.signal.removeEventListener("abort", this.#kill);
    this.#kill();
    await this.#model.stop();
    await clear(this.#subject.place);
  }

  transcript(): string {
    return this.#programs.map(({ command, output }) => `$ ${command.join(" ")}\n${output}`).join("\n");
  }

  async install(): Promise<void> {
    await this.#complete(["uv", "sync"]);
  }

  async lint(): Promise<void> {
    await this.#complete(["uv", "run", "ruff", "check"]);
    await this.#complete(["uv", "run", "ruff", "format", "--check"]);
  }

  async types(): Promise<void> {
    // What it found out for one platform is of no use for another.
    const cache = (platform: string) => ({ MYPY_CACHE_DIR: join(this.#subject.cache, platform) });
    await this.#complete(["uv", "run", "mypy"], cache("own"));
    // Finds calls that Windows does not have.
    await this.#complete(["uv", "run", "mypy", "--platform", "win32"], cache("win32"));
  }

  async tests(): Promise<void> {
    await this.#complete(["uv", "run", "pytest", "-q"]);
  }

  async start(env: Record<string, string> = {}): Promise<void> {
    const port = await freePort();
    this.#url = `http://127.0.0.1:${port}`;
    this.#service = this.#begin(this.#command("dev"), { ...this.#model.env, PORT: String(port), ...env });
    await this.#service.until("ready", 180, async () => (await this.#get("/readyz")) === 200);
  }

  /** The page, and the first answer of somebody without a model. */
  async ask(): Promise<void> {
    expectSame("the page's status", await this.#get("/"), 200);
    const answer = await this.#complete(this.#command("ask", QUESTION));
    for (const part of ["ten years", "sample/billing.md"]) {
      if (!answer.replace(/\s+/g, " ").includes(part)) throw new Error(`the answer lacks "${part}":\n${answer}`);
    }
  }

  /** First what works on a run, then the service that went on with it. */
  async kill(): Promise<void> {
    this.#model.hold(2);
    const asking = this.#begin(this.#command("ask", INTERRUPTED), this.#model.env);
    await asking.until("in its second turn", 180, async () => this.#counts()[1] === 1);
    asking.signalGroup("SIGKILL");
    const service = this.#running();
    await service.until("the run goes on in the service", 180, async () => this.#counts()[1] === 2);
    const runs = await this.#complete(this.#command("runs"));
    this.#run = runs.match(/^(\S+) +running .*\(interrupted\)/m)?.[1] ?? "";
    if (this.#run === "") throw new Error(`no run of that question is running:\n${runs}`);
    const held = await service.holdings();
    service.signalGroup("SIGKILL");
    expectSame("what is left behind", await service.left(held, 60), []);
  }

  async recover(): Promise<void> {
    await this.start();
    const service = this.#running();
    await service.until("the run goes on after the restart", 180, async () => this.#counts()[1] === 3);
    this.#model.release();
    await service.until("the last turn", 180, async () => this.#counts()[2] === 1);
    const shown = await service.until("ended", 180, async () => {
      const run = await this.#complete(this.#command("runs", this.#run));
      return !/^\S+ +(?:queued|running) /m.test(run) && run;
    });
    if (!/^\S+ +succeeded /m.test(shown)) throw new Error(`the run has not succeeded:\n${shown}`);
    expectSame(
      "its steps",
      [...shown.matchAll(/^ +\d+ {2}(.+?) +attempts:/gm)].map(([, name]) => name),
      STEPS,
    );
    // The turn that was held was cut off twice; what was recorded before it was not asked for again.
    expectSame("how often each turn of the model ran", this.#counts(), [1, 3, 1]);
  }

  async stop(): Promise<void> {
    await this.#halt();
    expectSame("what is left below its folders", await remains(await holdings(undefined, [this.#subject.place])), []);
  }

  /** What is sent for one question, by a service that works alone. */
  async trace(): Promise<void> {
    const { combination, project } = this.#subject;
    const wire = new Wire(combination);
    if (this.#service !== undefined) await this.#halt();
    const backend = await Backend.start(project, combination["observability"] ?? "");
    try {
      await this.start(wire.env(backend.url));
      const answer = await wire.ask(this.#url, QUESTION);
      if (!answer.includes("ten years")) throw new Error(`the answer lacks "ten years":\n${answer}`);
      await this.#halt(); // which sends what has not been sent yet
      wire.check(await backend.seen());
    } finally {
      await backend.stop();
    }
  }

  async #halt(): Promise<void> {
    const service = this.#running();
    const held = await service.holdings();
    service.signalGroup("SIGINT");
    expectSame("what is left running", await service.left(held, 60), []);
    this.#service = undefined;
  }

  #command(...args: string[]): string[] {
    return ["uv", "run", this.#subject.name, ...args];
  }

  #begin(command: string[], env: Record<string, string> = {}): Program {
    this.#subject.signal.throwIfAborted();
    const { project, place } = this.#subject;
    const program = new Program({
      project,
      data: join(place, "data"),
      command,
      // What tests start works there, and so is found where it does not end.
      env: { TMPDIR: join(place, "tmp"), ...env },
    });
    this.#programs.push(program);
    return program;
  }

  #complete(command: string[], env: Record<string, string> = {}): Promise<string> {
    return complete(this.#begin(command, env), command.join(" "), 900);
  }

  #running(): Program {
    if (this.#service === undefined) throw new Error("it was never started");
    return this.#service;
  }

  async #get(path: string): Promise<number | undefined> {
    try {
      const response = await fetch(this.#url + path, { signal: AbortSignal.timeout(10_000) });
      await response.text();
      return response.status;
    } catch {
      return undefined;
    }
  }

  #counts(): number[] {
    return this.#model.counts(INTERRUPTED);
  }
}

function leftOut(phase: string): Outcome {
  return { phase, result: "left out", seconds: 0, output: "" };
}
