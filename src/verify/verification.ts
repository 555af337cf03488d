import { randomUUID } from "node:crypto";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { devNull } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { EXIT, UserError } from "../errors.ts";
import { findTooling } from "../machine.ts";
import { findUv } from "../project.ts";
import { setupSteps, uvInVenv } from "../steps.ts";
import { bundleAuthorities, deriveUvSettings } from "../uv-settings.ts";
import { freePort, holdings, remains, until } from "./holdings.ts";
import { type Call, ModelServer, type Reply } from "./model-server.ts";
import { Program } from "./program.ts";

export interface Options {
  /** The project's folder. */
  project: string;
  /** Its name, which is that of its command too. */
  name: string;
  /** Ends it early, with nothing left running. */
  signal: AbortSignal;
  /** What the project writes meanwhile goes below this folder. */
  place: string;
  /** For the commands of the project. */
  env?: Record<string, string>;
  /** Variables that are settings, whether or not its .env.example names them. */
  settings?: readonly string[] | undefined;
}

const SOURCE = "foghorn.md";
const SENTENCE = "The foghorn is tested on the first Tuesday of each month.";
const DOCUMENT = `# Foghorn\n\n${SENTENCE} Whoever keeps the log writes down how far it was heard.\n`;
const QUESTION = "When is the foghorn tested?";
const INTERRUPTED = `${QUESTION} (interrupted)`;

/** A model that searches, reads the document, and then quotes it. */
function script({ turn, messages }: Call): Reply {
  if (turn === 1) return { tool: "search_documents", arguments: { query: QUESTION } };
  if (turn === 2) return { tool: "read_document", arguments: { source: SOURCE, position: 0 } };
  const passages: { passage: number; text: string }[] = messages
    .filter(({ role }) => role === "tool")
    .flatMap(({ content }) => JSON.parse(content ?? "[]"));
  const found = passages.find(({ text }) => text.includes(SENTENCE));
  const quotes = found === undefined ? [] : [{ passage: found.passage, quote: SENTENCE }];
  return { answer: { answered: found !== undefined, text: SENTENCE, quotes } };
}

/** A project that is being verified. */
export class Verification {
  readonly #options: Options;
  readonly #model: ModelServer;
  /** Settings of the project that the user has; verifying takes none. */
  readonly #settings: string[];
  /** Whom install trusts as well, where pip and npm have been told. */
  readonly #authorities = bundleAuthorities(deriveUvSettings(process.env).authorities);
  /** In the environment of all that is started. */
  readonly #id = randomUUID();
  readonly #uv: string;
  readonly #programs: Program[] = [];
  readonly #kill = () => this.#programs.forEach(kill);
  #service: Program | undefined;
  #run = "";
  /** Of the service, while it runs. */
  url = "";

  private constructor(options: Options, uv: string, settings: string[], model: ModelServer) {
    this.#options = options;
    this.#uv = uv;
    this.#settings = settings;
    this.#model = model;
    options.signal.addEventListener("abort", this.#kill);
  }

  static async begin(options: Options): Promise<Verification> {
    await mkdir(join(options.place, "tmp"), { recursive: true });
    const example = await readFile(join(options.project, ".env.example"), "utf8").catch(() => "");
    const named = [...example.matchAll(/^#? ?([A-Z_]+)=/gm)].map(([, name = ""]) => name);
    const settings = [...named, ...(options.settings ?? [])];
    return new Verification(options, await requireUv(options.project), settings, await ModelServer.start(script));
  }

  async end(): Promise<void> {
    this.#options.signal.removeEventListener("abort", this.#kill);
    this.#kill();
    await this.#model.stop();
    const ended = Promise.all(this.#programs.map((program) => program.ended));
    await Promise.race([ended, sleep(20_000, undefined, { ref: false })]);
    if (this.#authorities !== undefined) await rm(this.#authorities.folder, { recursive: true });
    await clear(this.#options.place, `${ID}=${this.#id}`);
  }

  transcript(): string {
    return this.#programs.map(({ command, output }) => `$ ${command.join(" ")}\n${output}`).join("\n");
  }

  async install(): Promise<void> {
    const isOwn = this.#uv === join(this.#options.project, uvInVenv());
    await this.uv("sync", ...(isOwn ? ["--inexact"] : [])); // an exact one would remove it
  }

  async lint(): Promise<void> {
    await this.uv("run", "ruff", "check");
    await this.uv("run", "ruff", "format", "--check");
  }

  async types(): Promise<void> {
    await this.uv("run", "mypy");
  }

  async tests(): Promise<void> {
    await this.uv("run", "pytest", "-q");
  }

  async start(env: Record<string, string> = {}): Promise<void> {
    const port = await freePort();
    this.url = `http://127.0.0.1:${port}`;
    this.#service = this.#begin(["run", this.#options.name, "dev"], { ...this.#model.env, PORT: String(port), ...env });
    await this.#service.until("ready", 180, async () => (await this.#status("/readyz")) === 200);
  }

  /** As somebody who has a document, and no model. */
  async ask(): Promise<void> {
    const document = join(this.#options.place, SOURCE);
    await writeFile(document, DOCUMENT);
    await this.#command("ingest", document);
    const answer = await this.#command("ask", QUESTION);
    for (const part of ["first Tuesday", SOURCE]) {
      if (!answer.replace(/\s+/g, " ").includes(part)) throw new Error(`the answer lacks "${part}":\n${answer}`);
    }
  }

  /** First what works on a run, then the service that went on with it. */
  async kill(): Promise<void> {
    this.#model.hold(2);
    const asking = this.#begin(["run", this.#options.name, "ask", INTERRUPTED], this.#model.env);
    await asking.until("in its second turn", 180, async () => this.#counts()[1] === 1);
    asking.signalGroup("SIGKILL");
    const service = this.#running();
    await service.until("the run goes on in the service", 180, async () => this.#counts()[1] === 2);
    const runs = await this.#command("runs");
    this.#run = runs.match(/^(\S+) +running .*\(interrupted\)/m)?.[1] ?? "";
    if (this.#run === "") throw new Error(`no run of that question is running:\n${runs}`);
    await this.#end("SIGKILL");
  }

  async recover(): Promise<void> {
    await this.start();
    const service = this.#running();
    await service.until("the run goes on after the restart", 180, async () => this.#counts()[1] === 3);
    this.#model.release();
    await service.until("the last turn", 180, async () => this.#counts()[2] === 1);
    const shown = await service.until("ended", 180, async () => {
      const run = await this.#command("runs", this.#run);
      return !/^\S+ +(?:queued|running) /m.test(run) && run;
    });
    if (!/^\S+ +succeeded /m.test(shown)) throw new Error(`the run has not succeeded:\n${shown}`);
    const counts = this.#counts().join(", ");
    // The turn that was held was cut off twice; what was recorded before it was not asked for again.
    if (counts !== "1, 3, 1")
      throw new Error(`the model was asked for its turns 1, 3, 1 times, but: ${counts}\n${shown}`);
  }

  async stop(): Promise<void> {
    await this.halt();
    expectNothing("left below its folders", await remains(await holdings(undefined, [this.#options.place])));
  }

  /** Ends the service as Ctrl-C does. */
  async halt(): Promise<void> {
    await this.#end("SIGINT");
    this.#service = undefined;
  }

  isStarted(): boolean {
    return this.#service !== undefined;
  }

  /** Runs uv in the project to its end. Throws with what it printed, when that is no success. */
  uv(...args: string[]): Promise<string> {
    return complete(this.#begin(args), `uv ${args.join(" ")}`, 900);
  }

  #command(...args: string[]): Promise<string> {
    return this.uv("run", this.#options.name, ...args);
  }

  #begin(args: string[], env: Record<string, string> = {}): Program {
    const { project, place, signal, env: given = {} } = this.#options;
    signal.throwIfAborted();
    const data = join(place, "data");
    // Neither the project nor Windows minds how they are written.
    const isForeign = (name: string) => this.#settings.includes(name.toUpperCase()) || FOREIGN.test(name);
    const own = Object.entries({ ...process.env, ...deriveUvSettings(process.env).variables });
    const trust = this.#authorities === undefined ? {} : { SSL_CERT_FILE: this.#authorities.file };
    // What tests start works there, and so is found where it does not end.
    const temporary = Object.fromEntries(["TMPDIR", "TEMP", "TMP"].map((name) => [name, join(place, "tmp")]));
    const program = new Program({
      folder: project,
      data,
      command: [this.#uv, ...args],
      env: {
        ...Object.fromEntries(own.flatMap(([name, value]) => (isForeign(name) ? [] : [[name, value ?? ""]]))),
        ...{ ...direct(), ...trust, ...temporary, ENV_FILE: devNull, DATA_DIR: data, [ID]: this.#id },
        ...{ ...given, ...env },
      },
    });
    this.#programs.push(program);
    return program;
  }

  /** With all that it has started. */
  async #end(signal: NodeJS.Signals): Promise<void> {
    const service = this.#running();
    const held = await service.holdings();
    service.signalGroup(signal);
    await until(`the service has ended by ${signal}`, 60, async () => service.hasEnded);
    expectNothing(`left by the service that got ${signal}`, await service.left(held, 60));
    await until(`${this.url} no longer answers`, 60, async () => (await this.#status("/")) === undefined);
  }

  #running(): Program {
    if (this.#service === undefined) throw new Error("it was never started");
    return this.#service;
  }

  async #status(path: string): Promise<number | undefined> {
    try {
      const response = await fetch(this.url + path, { signal: AbortSignal.timeout(10_000) });
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

const ID = "VERIFICATION_ID";

/** Of another Python's environment, of a tracer's, or what makes uv read a .env. */
const FOREIGN = /^(?:VIRTUAL_ENV$|PYTHON|OTEL_|UV_ENV_FILE$)/i;

/** No proxy stands between the project and the model here. */
function direct(): Record<string, string> {
  const { NO_PROXY, no_proxy = NO_PROXY } = process.env;
  const hosts = [...(no_proxy ? [no_proxy] : []), "127.0.0.1", "localhost"].join(",");
  return { NO_PROXY: hosts, no_proxy: hosts };
}

async function requireUv(project: string): Promise<string> {
  const uv = findUv(project);
  if (uv !== undefined) return uv;
  const message = "To verify a project takes uv, which is neither on the path nor in its .venv.";
  const steps = setupSteps(await findTooling()).slice(0, -1);
  const hint = `To put it there:\n${steps.map((step) => `  ${step}`).join("\n")}`;
  throw new UserError({ code: "no-uv", message, hint, exitCode: EXIT.failure });
}

function expectNothing(what: string, found: string[]): void {
  if (found.length > 0) throw new Error(`${what}:\n${found.join("\n")}`);
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

/** Ends what works below a folder, the databases that servers have started included, or has `mark` in its environment. */
export async function clear(folder: string, mark?: string): Promise<void> {
  const isEmpty = async () => (await holdings(mark, [folder])).processes.size === 0;
  // An embedded database is stopped by its keeper, when what it was started for is gone.
  await until("ended by themselves", 15, isEmpty).catch(() => undefined);
  await until("ended", 15, async () => {
    for (const pid of (await holdings(mark, [folder])).processes.keys()) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {}
    }
    return isEmpty();
  });
}
