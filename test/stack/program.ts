import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { remains } from "../../src/verify/holdings.ts";
import { Program as PlainProgram } from "../../src/verify/program.ts";
import { environment } from "./environment.ts";

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

/** A command of a project in a test. */
export class Program extends PlainProgram {
  constructor({ project, data, command, env, uid }: Options) {
    super({ folder: project, data, command, env: environment({ DATA_DIR: data, ...env }), uid });
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
