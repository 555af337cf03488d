import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { type Holdings, holdings, remains, until } from "./holdings.ts";

export interface Options {
  /** The folder that it works in. */
  folder: string;
  /** Where it keeps what it keeps. */
  data: string;
  command: string[];
  /** All of it. */
  env: Record<string, string>;
  /** To be run as this user. */
  uid?: number | undefined;
}

const isWindows = process.platform === "win32";

/** Time for what it has printed to arrive. What it leaves behind may hold its pipes for ever. */
const LAST_WORDS_MS = 5000;

/** A command of a project, started as from a terminal of its own. */
export class Program {
  readonly command: string[];
  output = "";
  hasEnded = false;
  readonly ended: Promise<number | null>;
  readonly #process: ChildProcess;
  readonly #data: string;
  /** In the environment of all that it starts. */
  readonly #mark: string;

  constructor({ folder, data, command, env, uid }: Options) {
    const id = randomUUID();
    this.command = command;
    this.#mark = `PROGRAM_ID=${id}`;
    this.#data = data;
    const [program = "", ...args] = command;
    this.#process = spawn(program, args, {
      cwd: folder,
      env: { ...env, PROGRAM_ID: id },
      detached: !isWindows, // a process group of its own, as a shell gives it
      windowsHide: true,
      stdio: ["ignore", "pipe", "pipe"],
      ...(uid === undefined ? {} : { uid, gid: uid }),
    });
    const streams = [this.#process.stdout, this.#process.stderr];
    for (const stream of streams) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        this.output += text;
      });
    }
    this.#process.on("exit", () => {
      const close = () => {
        for (const stream of streams) stream?.destroy();
      };
      setTimeout(close, LAST_WORDS_MS).unref();
    });
    this.ended = new Promise((resolve) => {
      const end = (exitCode: number | null) => {
        this.hasEnded = true;
        resolve(exitCode);
      };
      this.#process.on("close", end).on("error", ({ message }) => {
        this.output += message;
        end(null);
      });
    });
  }

  /** Asks until there is an answer. If the program ends first, or it takes too long, what it printed is told. */
  async until<T>(what: string, seconds: number, probe: () => Promise<T | undefined | false>): Promise<T> {
    try {
      return await until(what, seconds, async () => {
        if (this.hasEnded) throw new Error(`it ended before: ${what}`);
        return probe();
      });
    } catch (error) {
      throw new Error(`${error}\n${this.output}`);
    }
  }

  holdings(): Promise<Holdings> {
    return holdings(this.#mark, [this.#data]);
  }

  /** As Ctrl-C does and `kill -9 -$PGID`: all processes of the group get it. Windows has no signals: there, all end at once. */
  signalGroup(signal: NodeJS.Signals): void {
    const { pid } = this.#process;
    if (pid === undefined) throw new Error("it never started");
    if (!isWindows) process.kill(-pid, signal);
    else {
      const taskkill = spawn("taskkill", ["/pid", String(pid), "/T", "/F"], { stdio: "ignore", windowsHide: true });
      taskkill.on("error", () => this.signal(signal));
    }
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
}
