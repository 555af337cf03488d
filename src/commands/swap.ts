import { join } from "node:path";
import { applySteps, freeName, undoStage } from "../apply.ts";
import { type Catalogue, loadTemplateFiles } from "../catalogue.ts";
import {
  compareEnvironment,
  mergeWork,
  pathsOf,
  refuseForeign,
  renderAs,
  stepsOf,
  type Transition,
  transitionOf,
} from "../change.ts";
import { equip } from "../equip.ts";
import { Cancelled, EXIT, noneOf, UserError } from "../errors.ts";
import { loadArchive, type Templates, unpack } from "../history.ts";
import { findTooling } from "../machine.ts";
import type { Change } from "../merge.ts";
import { MOVE_ABOUT, MOVE_COMMAND, MOVE_SCRIPT } from "../move-data.ts";
import type { Output } from "../output.ts";
import { checkChoices, findProject, type Project, readProject, unknownVersion } from "../project.ts";
import { readFiles } from "../read-files.ts";
import { CHOICES_FILE } from "../render.ts";
import { checkRepository, UNDO } from "../repository.ts";
import { abortOnSignals } from "../signals.ts";
import { changeDirectory, nextSteps, pathFrom, quote, uvInVenv } from "../steps.ts";
import { abandonedStages, diskError, refuseBusy } from "../target.ts";

export interface SwapFlags {
  force: boolean;
  install: boolean;
  dryRun: boolean;
}

/** What the command is to do, and how it is typed. */
interface Request {
  command: string;
  /** Category → tool, of those that shall be others. */
  tools: Record<string, string>;
}

/** Another tool for one category. Returns the exit code. */
export function swap(category: string, tool: string, flags: SwapFlags, catalogue: Catalogue, output: Output) {
  const found = catalogue.categories.find(({ id }) => id === category);
  if (found === undefined) {
    throw noneOf(catalogue.categories, "unknown-category", `There is no category ${quote(category)}.`, category);
  }
  if (!found.tools.some(({ id }) => id === tool)) {
    throw noneOf(found.tools, "unknown-tool", `${category} ${quote(tool)}: no such tool.`, tool);
  }
  const request = { command: `swap ${category} ${tool}`, tools: { [category]: tool } };
  return change(request, flags, catalogue, output);
}

/** The same tools, as this version renders them. Returns the exit code. */
export function update(flags: SwapFlags, catalogue: Catalogue, output: Output) {
  return change({ command: "update", tools: {} }, flags, catalogue, output);
}

async function change(request: Request, flags: SwapFlags, catalogue: Catalogue, output: Output): Promise<number> {
  const signal = abortOnSignals();
  const root = findProject(process.cwd());
  const notes = await undoFormer(root, flags);
  const project = readProject(root);
  const transition = planChange(project, request, { catalogue, files: loadTemplateFiles() });
  if (isSettled(project, request)) return showSettled(project, request, flags, output);
  const present = readFiles(root, pathsOf(transition));
  refuseForeign(project, transition, present);
  const changes = mergeWork(transition, present, (path) => freeName(path, root));
  const result = { project, transition, changes, notes };
  if (flags.dryRun) {
    showPlan(result, output);
    output.result({ dryRun: true, ...describe(result), notes });
    if (!output.json) output.say("Nothing was written.");
    return EXIT.ok;
  }

  const steps = stepsOf(changes, transition, present);
  const paths = steps.map(({ path }) => path);
  const canUndo = await checkRepository(root, paths, flags.force, signal);
  showPlan(result, output);
  await applySteps(root, steps, signal);
  const install = flags.install ? await installAnew(result, output, signal) : "left out";
  return showResult(result, canUndo, install, output);
}

interface Result {
  project: Project;
  transition: Transition;
  changes: Change[];
  notes: string[];
}

/** Undoes what a run has left that was killed. */
async function undoFormer(root: string, { dryRun }: SwapFlags): Promise<string[]> {
  refuseBusy(root);
  const stages = abandonedStages(root);
  const [first] = stages;
  if (first === undefined) return [];
  if (dryRun) {
    const message = `An interrupted run left ${first} in ${root}.`;
    throw new UserError({ code: "interrupted", message, value: first, hint: "Without --dry-run it is undone first." });
  }
  try {
    for (const stage of stages) await undoStage(root, join(root, stage));
  } catch (error) {
    throw diskError(error, root);
  }
  return ["What an interrupted run had changed was undone first."];
}

function planChange(project: Project, { command, tools }: Request, current: Templates): Transition {
  const former = project.version === VERSION ? current : unpack(project.version, loadArchive(), current);
  if (former === undefined) throw unknownVersion(project, command);
  checkChoices(join(project.root, CHOICES_FILE), project.tools, former.catalogue);
  const categories = current.catalogue.categories.map(({ id, default: fallback, tools: candidates }) => {
    const tool = tools[id] ?? project.tools[id] ?? fallback;
    if (candidates.some((candidate) => candidate.id === tool)) return [id, tool];
    throw noneOf(candidates, "unknown-tool", `${VERSION} has no ${id} ${quote(tool)} any more; swap it first.`, tool);
  });
  const from = renderAs(project, project.tools, former, project.version);
  const to = renderAs(project, Object.fromEntries(categories), current, VERSION);
  return transitionOf(from, to, Object.values(tools)[0] ?? VERSION);
}

function isSettled(project: Project, { tools }: Request): boolean {
  const wanted = Object.entries(tools);
  return wanted.length === 0 ? project.version === VERSION : wanted.every(([id, tool]) => project.tools[id] === tool);
}

/** The dependencies, as create installs them. What fails is told, and the files stay. */
async function installAnew(result: Result, output: Output, signal: AbortSignal): Promise<"done" | "failed"> {
  const { project, transition, changes, notes } = result;
  if (changes.some(({ path, action }) => path === "pyproject.toml" && action === "conflict")) {
    notes.push("Nothing was installed: pyproject.toml is in conflict.");
    return "failed";
  }
  const constraints = transition.to.files.get("constraints.txt") ?? "";
  try {
    notes.push(...(await equip({ ...output, folder: project.root, constraints, install: true, git: false, signal })));
    return "done";
  } catch (error) {
    if (error instanceof Cancelled || !(error instanceof UserError)) throw error;
    notes.push(`${error.message}\n${error.hint}`);
    return "failed";
  }
}

function describe({ project, transition, changes }: Result) {
  const { from, to } = transition;
  return {
    name: project.name,
    directory: project.root,
    from: { version: project.version, tools: project.tools },
    to: { version: VERSION, tools: Object.fromEntries(to.plan.tools.map(({ category, id }) => [category, id])) },
    changes: changes.map(({ content: _, ...change }) => change),
    conflicts: conflictsIn(changes).map(({ path }) => path),
    environment: compareEnvironment(transition),
    nextSteps: [
      ...(to.files.has(MOVE_SCRIPT) ? [MOVE_ABOUT] : []),
      ...to.plan.nextSteps.filter((step) => !from.plan.nextSteps.includes(step)),
    ],
  };
}

function conflictsIn(changes: Change[]): Change[] {
  return changes.filter(({ action }) => action === "conflict");
}

function showSettled(
  { name, version, tools }: Project,
  request: Request,
  { dryRun }: SwapFlags,
  output: Output,
): number {
  const what = Object.entries(request.tools).map(([category, tool]) => `has ${tool} as its ${category}`);
  const text = `${name} ${what[0] ?? `is of version ${version}`} already. Nothing was written.`;
  output.result({ dryRun, name, from: { version, tools }, to: { version, tools }, changes: [], conflicts: [], text });
  if (!output.json) output.say(text);
  return EXIT.ok;
}

function showPlan({ project, transition, changes }: Result, output: Output): void {
  if (output.json) return;
  const { bold, dim, red } = output.colors;
  const { from, to } = transition;
  const swapped = to.plan.tools.flatMap(({ category, id }) => {
    const former = project.tools[category];
    return former === id ? [] : [`${category} ${former === undefined ? "" : `${former} → `}${id}`];
  });
  const versions = from.plan.version === VERSION ? [] : [`version ${from.plan.version} → ${VERSION}`];
  output.say(`${bold(project.name)}: ${[...swapped, ...versions].join(", ")}\n`);
  for (const { path, action, kept } of changes) {
    const colored = action === "conflict" ? red(action.padEnd(9)) : action.padEnd(9);
    output.say(`  ${colored} ${path}${dim(reasonFor(action, kept))}`);
  }
  output.say();
}

function reasonFor(action: Change["action"], kept: string | undefined): string {
  if (action === "skip") return "  you have deleted it, and it stays so";
  if (action === "merge") return "  with your changes";
  if (action !== "conflict") return "";
  return kept === undefined ? "  both have changed the same lines" : `  yours is kept as ${kept}`;
}

async function showResult(
  result: Result,
  canUndo: boolean,
  install: "done" | "failed" | "left out",
  output: Output,
): Promise<number> {
  const { project, changes, notes } = result;
  const described = describe(result);
  const conflicts = conflictsIn(changes);
  const near = pathFrom(process.cwd(), project.root);
  const tooling = await findTooling();
  const start = nextSteps(project.name, project.root, process.cwd(), tooling, install === "done");
  const uv = tooling.uv ? "uv" : uvInVenv();
  // Before the service starts, which fills an empty one with its sample.
  if (result.transition.to.files.has(MOVE_SCRIPT)) start.splice(-1, 0, `${uv} run ${MOVE_COMMAND}`);
  const steps = [...start, ...described.nextSteps];
  const undo = canUndo ? [...changeDirectory(project.root, process.cwd()), UNDO].join(" && ") : null;
  const isDone = conflicts.length === 0 && install !== "failed";
  output.result({
    ok: isDone,
    dryRun: false,
    ...described,
    nextSteps: steps,
    undo,
    notes,
    ...(isDone ? {} : problem(result)),
  });
  if (output.json) return isDone ? EXIT.ok : EXIT.failure;

  const { bold, cyan, green, red } = output.colors;
  output.say(`${green("✔")} ${bold(project.name)} in ${quote(near)} is changed.\n`);
  for (const note of notes) output.say(`  ${note}\n`);
  if (conflicts.length > 0) {
    const lines = conflicts.map(
      ({ path, kept }) =>
        `  ${path}: ${kept === undefined ? MARKERS : `carry over what you need from ${kept}, and delete that`}`,
    );
    output.say(`${red(`${conflicts.length} in conflict:`)}\n${lines.join("\n")}\n`);
  }
  showEnvironment(described.environment, output);
  output.say(`Next:\n${start.map((step) => `  ${cyan(step)}`).join("\n")}\n`);
  if (described.nextSteps.length > 0) output.say(`${described.nextSteps.map((step) => `  ${step}`).join("\n")}\n`);
  output.say(undo === null ? NO_UNDO : `To take it back (it stays in git's stash):\n  ${undo}`);
  return isDone ? EXIT.ok : EXIT.failure;
}

const MARKERS = "choose between the lines that <<<<<<< and >>>>>>> mark";

const NO_UNDO = "There is no command to take it back, since not all was committed before.";

function problem({ changes }: Result) {
  const count = conflictsIn(changes).length;
  const [code, message] = count > 0 ? ["conflicts", `${count} in conflict.`] : ["install", "Nothing was installed."];
  return { error: { code, message, hint: "See conflicts and notes." } };
}

function showEnvironment({ added, changed, removed }: ReturnType<typeof compareEnvironment>, output: Output): void {
  const rows = [
    ...added.map(({ name, about }) => `  new      ${name}  ${about}`),
    ...changed.map(({ name, about }) => `  changed  ${name}  ${about}`),
    ...removed.map(({ name }) => `  unused   ${name}`),
  ];
  if (rows.length > 0) output.say(`${output.colors.bold("Environment, for your .env")}\n${rows.join("\n")}\n`);
}
