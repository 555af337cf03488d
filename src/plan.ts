import { BASE, type Catalogue, FALLBACK, ownerOf } from "./catalogue.ts";
import { UserError } from "./errors.ts";
import { type Part, packageOf, type Requirement, type Tool, type Variable } from "./tool.ts";

/** What was asked for, by flags or prompts. */
export interface Answers {
  /** The distribution's name; the Python package is always `app`. */
  name: string;
  /** Category → tool. */
  tools: Record<string, string>;
}

/** Everything that a project consists of, before any file is rendered. */
export interface Plan {
  name: string;
  /** The generator's version. */
  version: string;
  /** One a category, in the catalogue's order. */
  tools: Tool[];
  /** The base and the tools, each tool followed by its fallbacks that are taken. */
  owners: string[];
  /** What `requires-python` is. */
  python: Requirement;
  dependencies: Requirement[];
  devDependencies: Requirement[];
  environment: { owner: string; title: string; variables: Variable[] }[];
  ports: number[];
  nextSteps: string[];
}

export function makePlan(answers: Answers, catalogue: Catalogue, version: string): Plan {
  const tools = catalogue.categories.map((category) => {
    const id = answers.tools[category.id];
    const tool = category.tools.find((candidate) => candidate.id === id);
    if (tool === undefined) throw new Error(`no tool "${id}" in category "${category.id}"`);
    return tool;
  });
  const owners: Owner[] = [
    { owner: BASE, title: "Application", part: catalogue.base },
    ...tools.flatMap((tool) => [
      { owner: ownerOf(tool), title: tool.title, part: tool },
      ...missing(tool, tools, catalogue).map((need) => fallbackFor(need, tool, tools, catalogue)),
    ]),
  ];
  checkUnique(owners, "environment variable", (part) => part.environment.map((variable) => variable.name));
  checkUnique(owners, "port", (part) => part.ports.map(String));
  return {
    name: answers.name,
    version,
    tools,
    owners: owners.map(({ owner }) => owner),
    python: mergePython(owners),
    dependencies: mergeRequirements(owners, (part) => part.dependencies),
    devDependencies: mergeRequirements(owners, (part) => part.devDependencies),
    environment: owners
      .filter(({ part }) => part.environment.length > 0)
      .map(({ owner, title, part }) => ({ owner, title, variables: part.environment })),
    ports: owners.flatMap(({ part }) => part.ports),
    nextSteps: owners.flatMap(({ part }) => part.nextSteps),
  };
}

/** Two owners claim the same thing: a mistake in the templates, told to whoever can choose other tools meanwhile. */
export function conflict(what: string, first: string, second: string): UserError {
  return new UserError({
    code: "conflict",
    message: `${first} and ${second} both bring the ${what}.`,
    hint: "Choose another tool for one of the two categories, or mend the templates.",
  });
}

const OLDEST_PYTHON = ">=3.11";

interface Owner {
  owner: string;
  title: string;
  part: Part;
}

/** The capabilities that a tool needs and nobody provides. */
function missing(tool: Tool, tools: Tool[], catalogue: Catalogue): string[] {
  const provided = new Set([catalogue.base, ...tools].flatMap(({ provides }) => provides));
  return tool.needs.filter((capability) => !provided.has(capability));
}

function fallbackFor(need: string, tool: Tool, tools: Tool[], catalogue: Catalogue): Owner {
  const part = tool.fallbacks[need];
  if (part !== undefined) return { owner: `${ownerOf(tool)}/${FALLBACK}${need}`, title: tool.title, part };
  const providers = catalogue.categories
    .flatMap((category) => category.tools)
    .filter(({ provides }) => provides.includes(need))
    .map(({ category, id }) => `--${category} ${id}`);
  throw new UserError({
    code: "needs",
    message: `${ownerOf(tool)} needs "${need}", which none of ${tools.map(ownerOf).join(", ")} provides.`,
    value: need,
    hint: providers.length > 0 ? `Take ${providers.join(" or ")}.` : "No tool provides it.",
  });
}

function checkUnique(owners: Owner[], what: string, keysOf: (part: Part) => string[]): void {
  const seen = new Map<string, string>();
  for (const { owner, part } of owners) {
    for (const key of keysOf(part)) {
      const first = seen.get(key);
      if (first !== undefined) throw conflict(`${what} ${key}`, first, owner);
      seen.set(key, owner);
    }
  }
}

function mergePython(owners: Owner[]): Requirement {
  const caps = owners.flatMap(({ part }) => part.python ?? []);
  if (caps.length === 0) return { requirement: OLDEST_PYTHON };
  const requirement = [OLDEST_PYTHON, ...caps.map(({ below }) => `<${below}`)].join(",");
  return { requirement, why: caps.map(({ why }) => why).join("; ") };
}

function mergeRequirements(owners: Owner[], requirementsOf: (part: Part) => Requirement[]): Requirement[] {
  const merged = new Map<string, { owner: string; requirement: Requirement }>();
  for (const { owner, part } of owners) {
    for (const requirement of requirementsOf(part)) {
      const name = packageOf(requirement.requirement);
      const first = merged.get(name);
      if (first !== undefined && first.requirement.requirement !== requirement.requirement) {
        const both = `"${first.requirement.requirement}" and "${requirement.requirement}"`;
        throw conflict(`package ${name}, as ${both}`, first.owner, owner);
      }
      if (first === undefined || first.requirement.why === undefined) merged.set(name, { owner, requirement });
    }
  }
  return [...merged].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, { requirement }]) => requirement);
}
