import catalogue from "compiled:catalogue";
import { Command, CommanderError, Option } from "commander";
import type { Catalogue } from "./catalogue.ts";
import type { Flags } from "./commands/create.ts";
import { defineOthers } from "./commands/define-others.ts";
import { EXIT, noneOf, UserError } from "./errors.ts";
import { makeOutput, type Output } from "./output.ts";
import type { Category } from "./tool.ts";

/** Runs one command line and returns the exit code. */
export async function main(argv: string[]): Promise<number> {
  process.stdout.on("error", ignoreClosedPipe);
  // Read before parsing: a mistake in the command line is reported as JSON too.
  const output = makeOutput({ json: argv.includes("--json"), verbose: argv.includes("--verbose") });
  try {
    let exitCode: number = EXIT.ok;
    await makeProgram(catalogue, output, (code) => {
      exitCode = code;
    }).parseAsync(argv, { from: "user" });
    return exitCode;
  } catch (error) {
    const problem = error instanceof CommanderError ? usageError(error) : error;
    if (problem === undefined) return EXIT.ok;
    output.error(problem);
    return problem instanceof UserError ? problem.exitCode : EXIT.failure;
  }
}

function makeProgram(catalogue: Catalogue, output: Output, exit: (code: number) => void): Command {
  const program = new Command("create-ai-stack")
    .description("Create a Python AI service that runs: one tool a category, wired together.")
    .argument("[directory]", "where the project goes; its last part is the project's name")
    .version(VERSION)
    .enablePositionalOptions()
    .helpCommand("help [command]", "show this help, or that of a command")
    .exitOverride()
    .configureHelp({ helpWidth: output.columns })
    .configureOutput({
      writeOut: (text) => (output.json ? output.result({ text: text.trimEnd() }) : output.say(text.trimEnd())),
      // Errors are reported once, by main().
      writeErr: () => {},
    });
  for (const category of catalogue.categories) program.addOption(toolOption(category));
  program
    .option("-y, --yes", "take the default for whatever is not given")
    .option("--from <file>", "take name and tools from an ai-stack.json; - reads it from stdin")
    .option("--no-install", "do not install the dependencies")
    .option("--no-git", "make no repository and no first commit")
    .addOption(new Option("--verify", "then test, start, ask, kill, recover and stop it").conflicts("install"))
    .option("--dry-run", "show files, dependencies and environment variables, and write nothing")
    .option("--json", "print one JSON document on stdout, everything else on stderr")
    .option("--verbose", "show what uv prints")
    .action(async (directory: string | undefined, options: Omit<Flags, "tools"> & Record<string, unknown>) => {
      const { create } = await import("./commands/create.ts");
      const tools = Object.fromEntries(catalogue.categories.map(({ id }) => [id, options[id] as string | undefined]));
      exit(await create(directory, { ...options, tools }, catalogue, output));
    });
  defineOthers(program, catalogue, output, exit);
  return program;
}

function toolOption({ id, question, default: fallback, tools }: Category): Option {
  const ids = tools.map((tool) => tool.id);
  return new Option(`--${id} <tool>`, `${question} Default: ${fallback}.`).choices(ids).argParser((value: string) => {
    if (ids.includes(value)) return value;
    throw noneOf(tools, "unknown-tool", `--${id} ${value}: no such tool.`, value);
  });
}

/** Help and version arrive as errors as well; they are none. */
function usageError({ code, message, exitCode }: CommanderError): UserError | undefined {
  if (code === "commander.help" && exitCode !== 0) {
    return new UserError({ code: "usage", message: "There is no such command.", hint: "See create-ai-stack --help." });
  }
  if (["commander.helpDisplayed", "commander.help", "commander.version"].includes(code)) return undefined;
  return new UserError({
    code: code.replace("commander.", "").replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`),
    message: `${message.replace(/^error: /, "").replace(/[.]?$/, ".")}`,
    hint: "See create-ai-stack --help.",
  });
}

/** A reader that has seen enough, such as head, is no failure. */
function ignoreClosedPipe(error: NodeJS.ErrnoException): void {
  if (error.code !== "EPIPE") throw error;
}
