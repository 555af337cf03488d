import pc from "picocolors";
import { UserError } from "./errors.ts";

type Colors = ReturnType<typeof pc.createColors>;

/** Where texts for people go, and where the one JSON document goes. */
export interface Output {
  json: boolean;
  verbose: boolean;
  colors: Colors;
  columns: number;
  say(text?: string): void;
  /** Names what is going on while it goes on. */
  progress<T>(label: string, work: () => Promise<T>): Promise<T>;
  result(value: Record<string, unknown>): void;
  error(error: unknown): void;
}

export function makeOutput({ json, verbose }: { json: boolean; verbose: boolean }): Output {
  const stream = json ? process.stderr : process.stdout;
  const colors = pc.createColors(hasColors(stream));
  const say = (text = "") => void stream.write(`${text}\n`);
  const print = (value: Record<string, unknown>) => void process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
  return {
    json,
    verbose,
    colors,
    columns: Math.min(stream.columns || 80, 100),
    say,
    progress: (label, work) => {
      if (isAnimated(stream) && !verbose) return animate(stream, label, work);
      say(`${label} …`);
      return work();
    },
    result: (value) => json && print({ ok: true, ...value }),
    error: (error) => {
      const { red, dim } = pc.createColors(hasColors(process.stderr));
      if (json) print({ ok: false, error: describe(error) });
      if (error instanceof UserError)
        process.stderr.write(`${red("✖")} ${error.message}${gapIn(error)}${dim(error.hint)}\n`);
      else process.stderr.write(`${red("✖ A bug in create-ai-stack:")} ${stackOf(error)}\n${dim(BUG_HINT)}\n`);
    },
  };
}

/** Breaks a text at spaces, each line after the first indented. */
export function wrap(text: string, columns: number, indent: string): string {
  const lines = [""];
  for (const word of text.split(/\s+/)) {
    const line = lines.at(-1) ?? "";
    if (line === "") lines[lines.length - 1] = word;
    else if (indent.length + line.length + 1 + word.length <= columns) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(word);
  }
  return lines.join(`\n${indent}`);
}

const BUG_HINT = "Please report it, with the command that you ran and the lines above.";

function describe(error: unknown): Record<string, unknown> {
  if (error instanceof UserError) {
    const { code, message, value, hint } = error;
    return { code, message, value, hint };
  }
  return { code: "bug", message: String(error), hint: BUG_HINT };
}

function gapIn({ message, hint }: UserError): string {
  return `${message}${hint}`.includes("\n") ? "\n" : " ";
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

function hasColors(stream: NodeJS.WriteStream): boolean {
  const { NO_COLOR, FORCE_COLOR, TERM } = process.env;
  if (NO_COLOR !== undefined && NO_COLOR !== "") return false;
  if (FORCE_COLOR !== undefined && FORCE_COLOR !== "") return FORCE_COLOR !== "0";
  return stream.isTTY === true && TERM !== "dumb";
}

function isAnimated(stream: NodeJS.WriteStream): boolean {
  return stream.isTTY === true && process.env["TERM"] !== "dumb" && !isCI();
}

export function isCI(): boolean {
  const { CI } = process.env;
  return CI !== undefined && CI !== "" && CI !== "0" && CI !== "false";
}

// Not the spinner of @clack/prompts: that one reads the keyboard and ends the process on Ctrl-C, with exit code 0.
async function animate<T>(stream: NodeJS.WriteStream, label: string, work: () => Promise<T>): Promise<T> {
  const start = Date.now();
  const draw = () => {
    const line = `${label} … ${Math.round((Date.now() - start) / 1000)} s`;
    stream.write(`\r\u001b[K${line.slice(0, (stream.columns || 80) - 1)}`);
  };
  const timer = setInterval(draw, 1000);
  draw();
  try {
    return await work();
  } finally {
    clearInterval(timer);
    stream.write("\r\u001b[K");
  }
}
