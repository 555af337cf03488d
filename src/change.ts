import type { Step } from "./apply.ts";
import { ownerOf } from "./catalogue.ts";
import { UserError } from "./errors.ts";
import { pinUv, unpinUv } from "./fragments/pins.ts";
import type { Templates } from "./history.ts";
import { type Change, differingPaths, merge } from "./merge.ts";
import { formerMove, renderMove } from "./move-data.ts";
import { makePlan, type Plan } from "./plan.ts";
import { type Project, updateChoices } from "./project.ts";
import type { Present } from "./read-files.ts";
import { CHOICES_FILE, type FileMap, render } from "./render.ts";
import type { Variable } from "./tool.ts";

/** A project before and after, as it is rendered without the user's work. */
export interface Transition {
  from: Rendered;
  to: Rendered;
  /** Whose the new lines are. */
  label: string;
}

interface Rendered {
  templates: Templates;
  plan: Plan;
  files: FileMap;
}

export function renderAs(project: Project, tools: Record<string, string>, templates: Templates, version: string) {
  const plan = makePlan({ name: project.name, tools }, templates.catalogue, version);
  return { templates, plan, files: render(plan, templates.files) };
}

/** With what carries the data over. */
export function transitionOf(from: Rendered, to: Rendered, label: string): Transition {
  return { from, to: { ...to, files: new Map([...to.files, ...renderMove(from.plan, to.plan, to.templates)]) }, label };
}

/** The files that a change of the project may write, its choices last. */
export function pathsOf({ from, to }: Transition): string[] {
  return [...differingPaths(from.files, to.files).filter((path) => path !== CHOICES_FILE), CHOICES_FILE];
}

/** Carries the user's work over. `present` has those of `pathsOf` that are there. */
export function mergeWork(
  { from, to, label }: Transition,
  present: ReadonlyMap<string, Present>,
  keepAs: (path: string) => string,
): Change[] {
  const ours = new Map([...present].map(([path, { content }]) => [path, content as Uint8Array]));
  // Written by an install, not by the user, and to be of the new versions.
  const unpinned = unpinUv(ours.get(PYPROJECT)?.toString() ?? "", from.files.get(CONSTRAINTS) ?? "");
  if (unpinned !== undefined) ours.set(PYPROJECT, Buffer.from(unpinned));
  const seam = seamOf(from, to);
  const whole = new Set(
    [from, to].flatMap(({ plan, templates }) => plan.owners.flatMap((owner) => filesOf(templates, owner))),
  );
  const mergeBy = (path: string) => (seam.has(path) ? "whole" : whole.has(path) ? "apart" : "touching");
  const base = new Map([...withoutChoices(from.files), ...formerMove(present, to.templates)]);
  const theirs = withoutChoices(to.files);
  return merge({ base, ours, theirs }, { mergeBy, label, keepAs }).map((change) => {
    const isPinned = change.path === PYPROJECT && unpinned !== undefined && change.action !== "conflict";
    if (!isPinned || typeof change.content !== "string") return change;
    return { ...change, action: "merge", content: pinUv(change.content, to.files.get(CONSTRAINTS) ?? "") };
  });
}

export function stepsOf(changes: Change[], { to }: Transition, present: ReadonlyMap<string, Present>): Step[] {
  const steps = changes.flatMap(({ path, content, kept }): Step[] => {
    if (content === undefined) return [];
    const { content: before = null, mode = undefined } = present.get(path) ?? {};
    const permissions = mode === undefined ? {} : { mode };
    const keep = kept === undefined ? [] : [{ path: kept, before: null, after: before, ...permissions }];
    return [...keep, { path, before, after: content, ...permissions }];
  });
  const choices = present.get(CHOICES_FILE);
  if (choices === undefined) throw new Error(`no ${CHOICES_FILE}`);
  const after = updateChoices(choices.content.toString(), to.files.get(CHOICES_FILE) ?? "");
  return [...steps, { path: CHOICES_FILE, before: choices.content, after, mode: choices.mode }];
}

/** Choices that were edited by hand, where the files say that they are others. */
export function refuseForeign(project: Project, { from, to }: Transition, present: ReadonlyMap<string, Present>): void {
  for (const tool of from.templates.catalogue.categories.flatMap(({ tools }) => tools)) {
    const files = Object.entries(from.templates.files[ownerOf(tool)]?.files ?? {});
    const [path] =
      files.find(([path, content]) => {
        const isExpected = from.files.get(path) === content || to.files.get(path) === content;
        return !isExpected && present.get(path)?.content.toString().replaceAll("\r\n", "\n") === content;
      }) ?? [];
    if (path === undefined) continue;
    const said = project.tools[tool.category];
    throw new UserError({
      code: "choices",
      message: `${CHOICES_FILE} says that the ${tool.category} is ${said}, but ${path} is that of ${tool.id}.`,
      value: `${said}`,
      hint: `If it is ${tool.id}, write that into ${CHOICES_FILE}, and run the command again. Nothing was changed.`,
    });
  }
}

/** What the user's .env has to follow, which is theirs alone. */
export function compareEnvironment({ from, to }: Transition) {
  const [before, after] = [variablesOf(from.plan), variablesOf(to.plan)];
  const isSame = (one: Variable, other: Variable) => one.about === other.about && one.example === other.example;
  return {
    added: after.filter(({ name }) => !before.some((old) => old.name === name)),
    changed: after.filter((variable) => before.some((old) => old.name === variable.name && !isSame(old, variable))),
    removed: before.filter(({ name }) => !after.some((fresh) => fresh.name === name)),
  };
}

const PYPROJECT = "pyproject.toml";
const CONSTRAINTS = "constraints.txt";

/** The files of all tools that come or go. */
function seamOf(from: Rendered, to: Rendered): ReadonlySet<string> {
  const [old, fresh] = [from.plan.owners, to.plan.owners];
  return new Set([
    ...old.filter((owner) => !fresh.includes(owner)).flatMap((owner) => filesOf(from.templates, owner)),
    ...fresh.filter((owner) => !old.includes(owner)).flatMap((owner) => filesOf(to.templates, owner)),
  ]);
}

/** Those that come from one owner as they are. All others are made of what several bring. */
function filesOf(templates: Templates, owner: string): string[] {
  return Object.keys(templates.files[owner]?.files ?? {});
}

function withoutChoices(files: FileMap): FileMap {
  return new Map([...files].filter(([path]) => path !== CHOICES_FILE));
}

function variablesOf(plan: Plan): Variable[] {
  return plan.environment.flatMap(({ variables }) => variables);
}
