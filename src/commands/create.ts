import { type Catalogue, loadTemplateFiles, type TemplateFiles } from "../catalogue.ts";
import { checkDirectory, packagesOf } from "../destination.ts";
import { equip } from "../equip.ts";
import { EXIT, UserError } from "../errors.ts";
import { factsOf } from "../facts.ts";
import { findTooling } from "../machine.ts";
import { isCI, type Output } from "../output.ts";
import { type Answers, makePlan, type Plan } from "../plan.ts";
import { readChoices } from "../project.ts";
import { recreateCommand, runnerOf } from "../recreate.ts";
import { type FileMap, render } from "../render.ts";
import { abortOnSignals } from "../signals.ts";
import { nextSteps, pathFrom, quote } from "../steps.ts";
import { nameOf, type Target } from "../target.ts";
import { writeProject } from "../write.ts";

/** The command line, as commander hands it over: the tools under their categories' names. */
export interface Flags {
  yes?: boolean;
  install: boolean;
  git: boolean;
  dryRun?: boolean;
  verify?: boolean;
  tools: Record<string, string | undefined>;
  /** An ai-stack.json whose choices stand in for flags that are not given; `-` is stdin. */
  from?: string;
}

interface Project {
  plan: Plan;
  files: FileMap;
  target: Target;
  /** As the user would type it. */
  directory: string;
}

const DEFAULT_DIRECTORY = "my-app";

/** Returns the exit code. */
export async function create(
  directory: string | undefined,
  flags: Flags,
  catalogue: Catalogue,
  output: Output,
): Promise<number> {
  const signal = abortOnSignals();
  const templates = loadTemplateFiles();
  const { target, answers } = await answer(directory, flags, catalogue, templates, output, signal);
  const plan = makePlan(answers, catalogue, VERSION);
  const files = render(plan, templates);
  const project = { plan, files, target, directory: pathFrom(process.cwd(), target.path) };
  if (flags.dryRun) return showDryRun(project, flags, output);

  await writeProject(target, files, signal);
  const constraints = files.get("constraints.txt") ?? "";
  const notes = await equip({ ...flags, ...output, folder: target.path, constraints, signal });
  const verified = flags.verify
    ? await (await import("./verify.ts")).verifyNew(target.path, plan.name, signal, output)
    : {};
  await showResult(project, flags, { notes, ...verified }, output);
  return verified.verification?.passed === false ? EXIT.failure : EXIT.ok;
}

/** Flags and prompts → a place and the choices. */
async function answer(
  directory: string | undefined,
  flags: Flags,
  catalogue: Catalogue,
  templates: TemplateFiles,
  output: Output,
  signal: AbortSignal,
): Promise<{ target: Target; answers: Answers }> {
  const taken = packagesOf(catalogue, templates);
  if (flags.from !== undefined) {
    const { name, tools } = readChoices(flags.from, catalogue);
    for (const [category, tool] of Object.entries(tools)) flags.tools[category] ??= tool;
    directory ??= name;
  }
  const open = catalogue.categories.filter((category) => flags.tools[category.id] === undefined);
  const asks = !flags.yes && (directory === undefined || open.length > 0);
  const canAsk = process.stdin.isTTY === true && process.stdout.isTTY === true && !isCI() && !output.json;
  if (asks && !canAsk) throw missingFlags(directory, open);

  // Checked before the first question: nobody wants to answer five and then start again.
  if (directory !== undefined) checkDirectory(directory, taken);
  const tools = Object.fromEntries(catalogue.categories.map((each) => [each.id, flags.tools[each.id] ?? each.default]));
  let chosen = directory ?? DEFAULT_DIRECTORY;
  if (asks) {
    const prompts = await import("../prompts.ts");
    prompts.begin(VERSION);
    if (directory === undefined) {
      chosen = await prompts.askDirectory(DEFAULT_DIRECTORY, (value) => checkDirectory(value, taken), signal);
    }
    for (const category of open) tools[category.id] = await prompts.askTool(category, signal);
    prompts.summarize(summaryOf(chosen, tools, catalogue));
  }
  return { target: checkDirectory(chosen, taken), answers: { name: nameOf(chosen, process.cwd()), tools } };
}

function missingFlags(directory: string | undefined, open: Catalogue["categories"]): UserError {
  const flags = open.map(({ id, tools }) => `--${id} (${tools.map((tool) => tool.id).join(", ")})`);
  const missing = [...(directory === undefined ? ["[directory]"] : []), ...flags];
  return new UserError({
    code: "missing-flags",
    message: `Without a terminal, with --json and with CI set nothing can be asked. Missing: ${missing.join("; ")}.`,
    hint: "Give them, or --yes for the defaults.",
  });
}

/** Sorted paths as a tree: each folder once, what is in it below, indented. */
function treeOf(paths: string[]): string {
  const shown = new Set<string>();
  const lines = paths.flatMap((path) => {
    const parts = path.split("/");
    return parts.flatMap((part, depth) => {
      const isFolder = depth < parts.length - 1;
      const key = parts.slice(0, depth + 1).join("/");
      if (isFolder && shown.has(key)) return [];
      shown.add(key);
      return [`${"  ".repeat(depth + 1)}${part}${isFolder ? "/" : ""}`];
    });
  });
  return lines.join("\n");
}

function showDryRun(project: Project, flags: Flags, output: Output): number {
  const { bold } = output.colors;
  output.result({ dryRun: true, ...describe(project, flags) });
  if (output.json) return EXIT.ok;
  const { plan, files, directory } = project;
  const variables = plan.environment.flatMap((section) => section.variables);
  output.say(`${bold(`${quote(directory)}/`)}\n${treeOf([...files.keys()])}\n`);
  output.say(`${bold("Dependencies")}\n${plan.dependencies.map(({ requirement }) => `  ${requirement}`).join("\n")}\n`);
  output.say(
    `${bold("For development")}\n${plan.devDependencies.map(({ requirement }) => `  ${requirement}`).join("\n")}\n`,
  );
  output.say(`${bold("Environment")}\n${variables.map(({ name, about }) => `  ${name}  ${about}`).join("\n")}\n`);
  output.say("Nothing was written.");
  return EXIT.ok;
}

async function showResult(project: Project, flags: Flags, more: { notes: string[] }, output: Output): Promise<void> {
  const { plan, target, directory } = project;
  const { bold, cyan, green } = output.colors;
  const steps = nextSteps(plan.name, target.path, process.cwd(), await findTooling(), flags.install);
  const described = describe(project, flags);
  output.result({ dryRun: false, ...described, nextSteps: [...steps, ...plan.nextSteps], ...more });
  if (output.json) return;
  output.say(`${green("✔")} Created ${bold(plan.name)} in ${quote(directory)}\n`);
  for (const note of more.notes) output.say(`  ${note}\n`);
  output.say(`Next:\n${steps.map((step) => `  ${cyan(step)}`).join("\n")}\n`);
  if (plan.nextSteps.length > 0) output.say(`${plan.nextSteps.map((step) => `  ${step}`).join("\n")}\n`);
  output.say(`To make the same project again:\n  ${described.recreate}`);
}

function describe({ plan, files, target, directory }: Project, flags: Flags) {
  const skipped = [...(flags.install ? [] : ["--no-install"]), ...(flags.git ? [] : ["--no-git"])];
  return {
    ...factsOf(plan),
    directory: target.path,
    files: [...files.keys()],
    recreate: recreateCommand(plan, runnerOf(process.env["npm_config_user_agent"]), quote(directory), skipped),
  };
}

function summaryOf(directory: string, tools: Record<string, string>, catalogue: Catalogue): string[] {
  const rows = catalogue.categories.map(({ id, tools: candidates }) => [
    id,
    candidates.find((tool) => tool.id === tools[id])?.title ?? "",
  ]);
  return [["directory", directory], ...rows].map(([label = "", value = ""]) => `${label.padEnd(14)} ${value}`);
}
