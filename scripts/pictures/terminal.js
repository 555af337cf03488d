import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";

// Python, which has pseudo-terminals, passes on what is typed and what is shown; Node has none.
const PASS_ON = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]))";
const PROMPT = "$ ";

/** A shell in a pseudo-terminal, typed into as a person would. */
export class Terminal {
  output = "";
  #read = 0;

  /**
   * @param {{cwd: string, env: Record<string, string>, columns: number, rows: number}} options
   * @param {(text: string) => void} onOutput
   */
  constructor({ cwd, env, columns, rows }, onOutput) {
    const shell = `stty columns ${columns} rows ${rows}; PS1="${PROMPT}" exec bash --norc --noprofile`;
    const settings = { ...env, HISTFILE: "", TERM: "xterm-256color", COLORTERM: "truecolor" };
    // Detached, so that Ctrl-C does not end it before what runs in it.
    this.process = spawn("python3", ["-c", PASS_ON, "sh", "-c", shell], { cwd, env: settings, detached: true });
    this.ended = once(this.process, "close");
    this.process.stdout.setEncoding("utf8").on("data", (text) => {
      this.output += text;
      onOutput(text);
    });
    this.process.stderr.pipe(process.stderr);
  }

  /** @param {string} text */
  async type(text) {
    this.#read = this.output.length;
    for (const [index, character] of [...text].entries()) {
      await sleep(35 + ((index * 37) % 50)); // uneven, as hands are, and the same each time
      this.process.stdin.write(character);
    }
    await sleep(300);
    this.press("\r");
  }

  /** @param {string} key */
  press(key) {
    this.#read = this.output.length;
    this.process.stdin.write(key);
  }

  /**
   * Waits for this text in what has come since a key was last pressed, or for the prompt.
   * @param {string} [text]
   */
  async shows(text) {
    const deadline = performance.now() + 120_000;
    const found = () => {
      const since = this.output.slice(this.#read);
      return text === undefined ? since.endsWith(PROMPT) : since.includes(text);
    };
    while (!found()) {
      if (performance.now() > deadline || this.process.exitCode !== null)
        throw new Error(`The terminal does not show ${text ?? "its prompt"}:\n${this.output.slice(-2000)}`);
      await sleep(50);
    }
  }

  /** Ends what runs in it first, so that nothing stays behind. */
  async end() {
    const patience = setTimeout(() => this.process.kill(), 30_000);
    for (const key of ["\u0003", "exit\r"]) {
      if (this.process.exitCode !== null) break;
      this.press(key);
      await Promise.race([this.shows().catch(() => {}), this.ended]);
    }
    await this.ended;
    clearTimeout(patience);
  }
}
