import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { environment } from "./environment.ts";
import { type Holdings, holdings, remains, until } from "./machine.ts";

export interface Options {
  project: string;
  /** Where it keeps what it keeps; a folder of its own, so that tests do not meet. */
  data: string;
  /** As typed in the project's folder. */
  command: string[];
  env?: Record<string, string | undefined>;
  /** To be run as this user. */
  uid?: number;
}

/** A command of a project, started as from a terminal of its own. */
export class Program {
  readonly command: string[];
  readonly mark: string;
  output = "";
  readonly ended: Promise<number | null>;
  readonly #process: ChildProcess;
  readonly #data: string;

  constructor({ project, data, command, env = {}, uid }: Options) {
    const id = randomUUID();
    this.command = command;
    this.mark = `STACK_TEST=${id}`;
    this.#data = data;
    const [program = "", ...args] = command;
    this.#process = spawn(program, args, {
      cwd: project,
      env: environment({ DATA_DIR: data, STACK_TEST: id, ...env }),
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

  /** Asks until there is an answer. If the program ends first, or it takes too long, what it printed is told. */
  async until<T>(what: string, seconds: number, probe: () => Promise<T | undefined | false>): Promise<T> {
    let gone = false;
    this.ended.then(() => {
      gone = true;
    });
    try {
      return await until(what, seconds, async () => {
        if (gone) throw new Error(`it ended before: ${what}`);
        return probe();
      });
    } catch (error) {
      throw new Error(`${error}\n${this.output}`);
    }
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

  /** What is still held, some seconds after the program was told to go. */
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

async function isKeeperOrDatabase(pid: number): Promise<boolean> {
  const command = await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "");
  return /embedded|postgres/.test(command);
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {}
}
