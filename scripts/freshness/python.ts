import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Catalogue, TemplateFiles } from "../../src/catalogue.ts";
import { readPins } from "../../src/fragments/constraints.ts";
import { makePlan } from "../../src/plan.ts";
import { render } from "../../src/render.ts";
import { packageOf, type Requirement } from "../../src/tool.ts";
import { allOf, type Combination } from "../../test/matrix/combinations.ts";
import { PROGRAMS } from "../../test/stack/uvx.ts";
import { type Dependency, type Hold, isNewerMajor, whereOf } from "./dependency.ts";
import { causeIn } from "./registry.ts";
import { conflictOf, highest, newestOf, type Pins, type Resolve, resolve } from "./uv.ts";

/** Of each combination: what it requires, and what that needs. */
export async function dependenciesOfProjects(
  catalogue: Catalogue,
  files: TemplateFiles,
  ask: Resolve = resolve,
): Promise<Dependency[]> {
  const all = allOf(catalogue);
  const stacks = all.map((combination) => stackOf(combination, catalogue, files));
  const used = stacks.flatMap(({ pins }) => [...pins].map(([name, own]): [string, string] => [name, highest(own)]));
  const newest = await newestOf(used, ask);
  const entries: [Combination, Entry][] = [];
  const known: Conflict[] = [];
  for (const stack of stacks) {
    for (const entry of await entriesOf(stack, newest, known, ask)) entries.push([stack.combination, entry]);
  }
  return merge(entries, all);
}

/** Programs that the scripts of package.json and the tests run, each in an environment of its own. */
export async function dependenciesOfTools(root: string): Promise<Dependency[]> {
  const { scripts } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
  const called = Object.values<string>(scripts).flatMap((script) => [
    ...script.matchAll(/\buvx .*?([\w-]+)@([\w.]+)/g),
  ]);
  const tools = new Map<string, { version: string; where: string }>();
  for (const [, name = "", version = ""] of called) tools.set(name, { version, where: "package.json" });
  for (const pin of Object.values(PROGRAMS)) tools.set(packageOf(pin), { version: highest([pin]), where: "tests" });
  const newest = await newestOf(
    [...tools].map(([name, { version }]) => [name, version]),
    resolve,
  );
  return [...tools].map(([name, { version, where }]) => {
    return { name, used: version, newest: newest.get(name) ?? "", direct: true, where };
  });
}

/** The requirements that `message`, of uv's resolver, names as what keeps `name` back: others', or else its own. */
export function needsIn(message: string, name: string): { holder: string; requirement: string }[] {
  const premises = message.replaceAll(/\s+/g, " ").replaceAll(CONCLUSION, "");
  const needs = [...premises.matchAll(NEED)].map(([, holder = "", requirement = ""]) => {
    return { holder: packageOf(holder), requirement };
  });
  const others = needs.filter(({ requirement }) => packageOf(requirement) === name);
  return others.length > 0 ? others : needs.filter(({ holder }) => holder === name);
}

/** One package of one combination. */
type Entry = Omit<Dependency, "where">;

/** What a combination requires, and the versions of all packages that it was tested with. */
interface Stack {
  combination: Combination;
  requirements: Requirement[];
  pins: Pins;
}

/** Why `newest` of a package does not fit in: true wherever the holders have these versions. */
interface Conflict {
  name: string;
  newest: string;
  needs: { holder: string; version: string; requirement: string }[];
}

const NEED = /([a-z0-9][\w.-]*)(?:\[[^\]]*\])?(?:[<>=!~]\S*)? depends on (?:one of: )?([a-z]\S*?)(?=[,.]?(?:\s|$))/gi;

const CONCLUSION = /, we can conclude that .*?\.(?= |$)/g;

function stackOf(tools: Combination, catalogue: Catalogue, files: TemplateFiles): Stack {
  const plan = makePlan({ name: "freshness", tools }, catalogue, "0.0.0");
  const rendered = render(plan, files);
  const pins = readPins(rendered.get("constraints.txt") ?? "", "constraints.txt");
  // What installs and builds a project is no part of it, so that constraints.txt does not pin it.
  const build = rendered.get("pyproject.toml")?.match(/^requires = \["([\w-]+)>=([\w.]+)"\]$/m);
  const uv = rendered.get("Dockerfile")?.match(/astral-sh\/(uv):([\w.]+)/);
  const outside = [build, uv].flatMap((found) => (found ? [`${found[1]}==${found[2]}`] : []));
  for (const pin of outside) pins.set(packageOf(pin), [pin]);
  const requirements = outside.map((pin) => ({ requirement: packageOf(pin) }));
  return { combination: tools, requirements: [...plan.dependencies, ...plan.devDependencies, ...requirements], pins };
}

async function entriesOf(
  { requirements, pins }: Stack,
  newest: Map<string, string>,
  known: Conflict[],
  ask: Resolve,
): Promise<Entry[]> {
  // As new as everything can be at once, with nothing older than it was tested.
  const floors = [...pins.values()].flat().map((pin) => pin.replace("==", ">="));
  const free = await ask([...requirements.map(({ requirement }) => requirement), ...floors]);
  const direct = new Map(requirements.map((required) => [packageOf(required.requirement), required]));
  const entries: Entry[] = [];
  for (const [name, own] of pins) {
    const entry: Entry = { name, used: highest(own), newest: newest.get(name) ?? "", direct: direct.has(name) };
    // Nothing holds back what would come with the newest of the others, or would be gone.
    const isHeld = highest(free.get(name) ?? [`==${entry.newest}`]) !== entry.newest;
    if (isHeld && (entry.direct || isNewerMajor(entry))) {
      entry.hold = await holdOf(entry, direct.get(name)?.why, free, known, ask);
    }
    entries.push(entry);
  }
  return entries;
}

async function holdOf(
  { name, newest }: Entry,
  why: string | undefined,
  free: Pins,
  known: Conflict[],
  ask: Resolve,
): Promise<Hold> {
  if (why !== undefined) return { text: `a cap of our own: ${why}`, explained: true };
  const versionOf = (holder: string) => (holder === name ? newest : highest(free.get(holder) ?? []));
  let conflict = known.find(
    (one) =>
      one.name === name &&
      one.newest === newest &&
      one.needs.every(({ holder, version }) => versionOf(holder) === version),
  );
  if (conflict === undefined) {
    const others = [...free].filter(([other]) => other !== name).flatMap(([, own]) => own);
    const message = (await conflictOf([...others, `${name}==${newest}`], ask)) ?? "";
    const needs = needsIn(message, name).map((need) => ({ ...need, version: versionOf(need.holder) }));
    if (needs.length === 0) return { text: causeIn(message) ?? "uv, for no reason that it names", explained: false };
    conflict = { name, newest, needs };
    known.push(conflict);
  }
  const texts = conflict.needs.map(({ holder, version, requirement }) => `${holder} ${version} needs ${requirement}`);
  return { text: [...new Set(texts)].join(", "), explained: true };
}

/** The same package with the same answers in several combinations is told once. */
function merge(entries: [Combination, Entry][], all: Combination[]): Dependency[] {
  const groups = new Map<string, { entry: Entry; combinations: Combination[] }>();
  for (const [combination, entry] of entries) {
    const key = JSON.stringify(entry);
    const group = groups.get(key) ?? { entry, combinations: [] };
    group.combinations.push(combination);
    groups.set(key, group);
  }
  return [...groups.values()]
    .map(({ entry, combinations }) => ({ ...entry, where: whereOf(combinations, all) }))
    .sort((a, b) => a.name.localeCompare(b.name, "en"));
}
