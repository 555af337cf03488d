import type { Command } from "commander";
import type { Catalogue } from "../catalogue.ts";
import type { Output } from "../output.ts";
import type { SwapFlags } from "./swap.ts";

/** The commands beside the one that creates, as they are typed. `exit` gets the exit code. */
export function defineOthers(
  program: Command,
  catalogue: Catalogue,
  output: Output,
  exit: (code: number) => void,
): void {
  program
    .command("list")
    .description("show the tools, each with when to choose it and when not")
    .option("--json", "print one JSON document on stdout")
    .action(async () => {
      const { list } = await import("./list.ts");
      list(catalogue, VERSION, output);
    });
  const categories = catalogue.categories.map(({ id }) => id).join(", ");
  changing(program.command("swap <category> <tool>"))
    .description(`change one tool of the project here, and keep your work; the categories: ${categories}`)
    .action(async (category: string, tool: string, _: unknown, command: Command) => {
      const { swap } = await import("./swap.ts");
      exit(await swap(category, tool, swapFlags(command), catalogue, output));
    });
  changing(program.command("update"))
    .description("bring the project here to this version, and keep your work")
    .action(async (_: unknown, command: Command) => {
      const { update } = await import("./swap.ts");
      exit(await update(swapFlags(command), catalogue, output));
    });
  program
    .command("verify")
    .description(
      "install, test, start, ask, kill, recover and stop the project here, on data of its own; no key is needed",
    )
    .option("--phases <names>", "some parts alone: some of install,lint,types,tests,start,ask,kill,recover,stop")
    .option("--json", "print one JSON document on stdout, everything else on stderr")
    .action(async ({ phases }: { phases?: string }) => {
      const { verify } = await import("./verify.ts");
      exit(await verify(phases, output));
    });
  program
    .command("doctor")
    .description("check Node, Python, uv and git, and the project here: what is wrong, and what to do")
    .option("--json", "print one JSON document on stdout")
    .action(async () => {
      const { doctor } = await import("./doctor.ts");
      exit(await doctor(output));
    });
  program
    .command("mcp")
    .description("let an MCP client list, plan, create and verify, over stdin and stdout")
    .option("--allow <directory>", "where it may create projects; may be given more than once", append, [])
    .action(async ({ allow }: { allow: string[] }) => {
      const { mcp } = await import("./mcp.ts");
      await mcp(allow);
    });
}

function append(value: string, others: string[]): string[] {
  return [...others, value];
}

function changing(command: Command): Command {
  return command
    .option("--dry-run", "show what would change, and write nothing")
    .option("--force", "go on where git could not take it back")
    .option("--no-install", "do not install the dependencies")
    .option("--json", "print one JSON document on stdout, everything else on stderr")
    .option("--verbose", "show what uv prints");
}

/** Options may stand before the command as well. */
function swapFlags(command: Command): SwapFlags {
  const [own, above] = [command.opts(), command.parent?.opts() ?? {}];
  return {
    force: own["force"] === true,
    install: own["install"] !== false && above["install"] !== false,
    dryRun: own["dryRun"] === true || above["dryRun"] === true,
  };
}
