import compiled from "compiled:catalogue";
import { loadTemplateFiles, type TemplateFiles } from "./catalogue.ts";
import { checkDirectory, checkName, packagesOf } from "./destination.ts";
import { equip } from "./equip.ts";
import { noneOf, UserError } from "./errors.ts";
import { factsOf } from "./facts.ts";
import { makePlan } from "./plan.ts";
import { recreateCommand } from "./recreate.ts";
import { render } from "./render.ts";
import { nameOf } from "./target.ts";
import type { Category, Requirement, Variable } from "./tool.ts";
import { writeProject } from "./write.ts";

export type { Category, Requirement, Tool, Variable } from "./tool.ts";
export { UserError };

/** What can be chosen: categories in the order of the questions, each with its tools and its default. */
export const catalogue: readonly Category[] = compiled.categories;

/** The content of an `ai-stack.json` will do. */
export interface Choices {
  /** The project's name. Default: `my-app`. */
  name?: string;
  /** Category → tool. A category that is left out gets its default. */
  tools?: Record<string, string>;
}

/** A project in memory. */
export interface Planned {
  name: string;
  /** Of create-ai-stack. */
  version: string;
  /** Category → tool. */
  tools: Record<string, string>;
  /** Path in the project, with `/` → content. */
  files: ReadonlyMap<string, string>;
  dependencies: Requirement[];
  devDependencies: Requirement[];
  environment: Variable[];
  nextSteps: string[];
  /** The command that makes the same project. */
  recreate: string;
}

export interface CreateOptions {
  /** Where the project goes: new, empty, or a repository without files. Its last part is the project's name. */
  directory: string;
  /** Category → tool. A category that is left out gets its default. */
  tools?: Record<string, string>;
  /** Install the dependencies, which needs uv, or Python 3.11 and pip. Default: true. */
  install?: boolean;
  /** Make a repository with a first commit. Default: true. */
  git?: boolean;
  /** Stops the work: what is there then is a whole project or nothing. */
  signal?: AbortSignal;
  /** Told what begins, in a few words. */
  onProgress?: (label: string) => void;
}

export interface Created extends Planned {
  /** Absolute. */
  directory: string;
  /** What went another way than usual. */
  notes: string[];
}

/** What a project would consist of; writes nothing. Throws `UserError` for a name or a tool that cannot be. */
export function plan({ name = "my-app", tools = {} }: Choices = {}): Planned {
  const templates = loadTemplateFiles();
  checkName(name, packagesOf(compiled, templates), () => "Give another one.");
  return planFrom(templates, name, tools);
}

/** Creates a project, as the command does: whole, or not at all. Throws `UserError` with what to mend. */
export async function create(options: CreateOptions): Promise<Created> {
  const { directory, tools = {}, install = true, git = true, onProgress } = options;
  const { signal = new AbortController().signal } = options;
  const templates = loadTemplateFiles();
  const target = checkDirectory(directory, packagesOf(compiled, templates));
  const planned = planFrom(templates, nameOf(directory, process.cwd()), tools);
  onProgress?.("Writing the files");
  await writeProject(target, new Map(planned.files), signal);
  const constraints = planned.files.get("constraints.txt") ?? "";
  const progress = <T>(label: string, work: () => Promise<T>) => {
    onProgress?.(label);
    return work();
  };
  const notes = await equip({ folder: target.path, constraints, install, git, verbose: false, signal, progress });
  return { ...planned, directory: target.path, notes };
}

function planFrom(templates: TemplateFiles, name: string, tools: Record<string, string>): Planned {
  const made = makePlan({ name, tools: complete(tools) }, compiled, VERSION);
  const { nextSteps } = made;
  return { ...factsOf(made), files: render(made, templates), nextSteps, recreate: recreateCommand(made, "npx") };
}

/** With the default of each category that is left out. */
function complete(tools: Record<string, string>): Record<string, string> {
  const unknown = Object.keys(tools).find((id) => !catalogue.some((category) => category.id === id));
  if (unknown !== undefined) throw noneOf(catalogue, "unknown-category", `${unknown}: no such category.`, unknown);
  return Object.fromEntries(
    catalogue.map((category) => {
      const id = tools[category.id] ?? category.default;
      if (category.tools.some((tool) => tool.id === id)) return [category.id, id];
      throw noneOf(category.tools, "unknown-tool", `${id}: no such ${category.id} tool.`, id);
    }),
  );
}
