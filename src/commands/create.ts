import { basename, dirname, join } from "node:path";
import { type Catalogue, loadTemplateFiles, type TemplateFiles } from "../catalogue.ts";
import { Cancelled, UserError } from "../errors.ts";
import { findTooling } from "../machine.ts";
import { refuseName, suggestName } from "../names.ts";
import { isCI, type Output } from "../output.ts";
import { type Answers, makePlan, type Plan } from "../plan.ts";
import { recreateCommand, runnerOf } from "../recreate.ts";
import { type FileMap, render } from "../render.ts";
import { abortOnSignals } from "../signals.ts";
import { nextSteps, pathFrom, quote } from "../steps.ts";
import { inspectTarget, nameOf, type Target } from "../target.ts";
import { type Part, packageOf, type Tool } from "../tool.ts";
import { writeProject } from "../write.ts";

/** The command line, as commander hands it over: the tools under their categories' names. */
export interface Flags {
  yes: boolean;
  install: boolean;
  git: boolean;
  dryRun: boolean;
  tools: Record<string, string | undefined>;
}

interface Project {
  plan: Plan;
  files: FileMap;
  target: Target;
  /** As the user would type it. */
  directory: string;
}

const DEFAULT_DIRECTORY = "my-app";

export async function create(
  directory: string | undefined,
  flags: Flags,
  catalogue: Catalogue,
  output: Output,
): Promise<void> {
  const signal = abortOnSignals();
  const templates = loadTemplateFiles();
  const { target, answers } = await answer(directory, flags, catalogue, templates, output, signal);
  const plan = makePlan(answers, catalogue, VERSION);
  const files = render(plan, templates);
  const project = { plan, files, target, directory: pathFrom(process.cwd(), target.path) };
  if (flags.dryRun) return showDryRun(project, flags, output);

  await writeProject(target, files, signal);
  const notes = await equip(project, flags, output, signal);
  await showResult(project, flags, notes, output);
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
  const open = catalogue.categories.filter((category) => flags.tools[category.id] === undefined);
  const asks = !flags.yes && (directory === undefined || open.length > 0);
  if (asks && !isInteractive(output)) throw missingFlags(directory, open);

  // Checked before the first question: nobody wants to answer five and then start again.
  if (directory !== undefined) checkDirectory(directory, taken);
  const tools = Object.fromEntries(
    catalogue.categories.map(({ id, ...rest }) => [id, flags.tools[id] ?? rest.default]),
  );
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

function checkDirectory(directory: string, taken: ReadonlySet<string>): Target {
  const name = directory.trim() === "" ? "" : nameOf(directory, process.cwd());
  const reason = refuseName(name, taken);
  if (reason !== undefined) {
    const suggestion = suggestName(name, taken);
    const elsewhere = join(dirname(directory), suggestion);
    throw new UserError({
      code: "name",
      message: `"${name}" cannot be the name of the project: ${reason}.`,
      value: name,
      hint: `Try ${quote(basename(directory) === name ? elsewhere : suggestion)}.`,
    });
  }
  return inspectTarget(directory, process.cwd());
}

/** Every package of every stack: a project's name must stay free when a tool is changed later. */
function packagesOf(catalogue: Catalogue, templates: TemplateFiles): ReadonlySet<string> {
  const parts = [catalogue.base, ...catalogue.categories.flatMap((category) => category.tools.flatMap(partsOf))];
  const direct = parts.flatMap((part) => [...part.dependencies, ...part.devDependencies]);
  const pinned = Object.values(templates).flatMap(({ pins }) => Object.keys(pins));
  return new Set([...direct.map(({ requirement }) => packageOf(requirement)), ...pinned]);
}

function partsOf(tool: Tool): Part[] {
  return [tool, ...Object.values(tool.fallbacks)];
}

function isInteractive(output: Output): boolean {
  return process.stdin.isTTY === true && process.stdout.isTTY === true && !isCI() && !output.json;
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

/** Dependencies, then git: so that uv.lock is in the first commit. */
async function equip(project: Project, flags: Flags, output: Output, signal: AbortSignal): Promise<string[]> {
  const notes: string[] = [];
  let failure: unknown;
  if (flags.install) {
    try {
      const install = () => installInto(project, output, signal);
      notes.push(...(await output.progress("Installing the dependencies", install)));
    } catch (error) {
      if (error instanceof Cancelled || !(error instanceof UserError)) throw error;
      failure = error;
    }
  }
  if (flags.git) notes.push(...(await commit(project.target.path, signal)));
  if (failure !== undefined) throw failure;
  return notes;
}

async function installInto({ target, files }: Project, output: Output, signal: AbortSignal): Promise<string[]> {
  const { install } = await import("../install.ts");
  const constraints = files.get("constraints.txt") ?? "";
  return install({ folder: target.path, constraints, verbose: output.verbose, signal });
}

async function commit(path: string, signal: AbortSignal): Promise<string[]> {
  const { commitFirst } = await import("../git.ts");
  const note = await commitFirst(path, signal);
  return note === undefined ? [] : [note];
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

function showDryRun(project: Project, flags: Flags, output: Output): void {
  const { bold } = output.colors;
  output.result({ dryRun: true, ...describe(project, flags) });
  if (output.json) return;
  const { plan, files, directory } = project;
  const variables = plan.environment.flatMap((section) => section.variables);
  output.say(`${bold(`${quote(directory)}/`)}\n${treeOf([...files.keys()])}\n`);
  output.say(`${bold("Dependencies")}\n${plan.dependencies.map(({ requirement }) => `  ${requirement}`).join("\n")}\n`);
  output.say(
    `${bold("For development")}\n${plan.devDependencies.map(({ requirement }) => `  ${requirement}`).join("\n")}\n`,
  );
  output.say(`${bold("Environment")}\n${variables.map(({ name, about }) => `  ${name}  ${about}`).join("\n")}\n`);
  output.say("Nothing was written.");
}

async function showResult(project: Project, flags: Flags, notes: string[], output: Output): Promise<void> {
  const { plan, target, directory } = project;
  const { bold, cyan, green } = output.colors;
  const steps = nextSteps(plan.name, target.path, process.cwd(), await findTooling(), flags.install);
  const described = describe(project, flags);
  output.result({ dryRun: false, ...described, nextSteps: [...steps, ...plan.nextSteps], notes });
  if (output.json) return;
  output.say(`${green("✔")} Created ${bold(plan.name)} in ${quote(directory)}\n`);
  for (const note of notes) output.say(`  ${note}\n`);
  output.say(`Next:\n${steps.map((step) => `  ${cyan(step)}`).join("\n")}\n`);
  if (plan.nextSteps.length > 0) output.say(`${plan.nextSteps.map((step) => `  ${step}`).join("\n")}\n`);
  output.say(`To make the same project again:\n  ${described.recreate}`);
}

function describe({ plan, files, target, directory }: Project, flags: Flags) {
  const skipped = [...(flags.install ? [] : ["--no-install"]), ...(flags.git ? [] : ["--no-git"])];
  return {
    name: plan.name,
    version: plan.version,
    directory: target.path,
    tools: Object.fromEntries(plan.tools.map((tool) => [tool.category, tool.id])),
    files: [...files.keys()],
    dependencies: plan.dependencies,
    devDependencies: plan.devDependencies,
    environment: plan.environment.flatMap(({ variables }) => variables),
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
