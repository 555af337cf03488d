import { UserError } from "./errors.ts";

export interface Requirement {
  /** A PEP 508 requirement, such as `psycopg[binary]>=3.3`. */
  requirement: string;
  /** Why it is capped; required where it is. */
  why?: string;
}

export interface Variable {
  name: string;
  about: string;
  example: string;
  secret: boolean;
}

/** What the base and every tool can add to a project. */
export interface Part {
  /** The first Python that it does not run on, and why. */
  python?: { below: string; why: string };
  needs: string[];
  provides: string[];
  dependencies: Requirement[];
  devDependencies: Requirement[];
  environment: Variable[];
  ports: number[];
  nextSteps: string[];
}

export interface Tool extends Part {
  id: string;
  category: string;
  /** Capability that it needs → what it brings instead where nothing provides that one. */
  fallbacks: Record<string, Part>;
  /** What stands in for the tool where no server of it is named, and what was not tried of the tool itself. */
  emulated: string;
  title: string;
  choose: string;
  avoid: string;
  homepage: string;
}

export interface Category {
  id: string;
  question: string;
  about: string;
  default: string;
  order: number;
  tools: Tool[];
}

export function checkTool(
  raw: unknown,
  file: string,
  category: string,
  id: string,
  fallbacks: Record<string, Part>,
): Tool {
  const keys = new Keys(raw, file);
  const tool = {
    id,
    category,
    fallbacks,
    title: keys.text("title"),
    choose: keys.line("choose"),
    avoid: keys.line("avoid"),
    homepage: keys.text("homepage"),
    emulated: keys.optional("emulated", "string", ""),
    ...readPart(keys),
  };
  keys.refuseOthers();
  if (tool.emulated.includes("\n")) throw keys.error("emulated", "must be one line");
  const needless = Object.keys(fallbacks).find((capability) => !tool.needs.includes(capability));
  if (needless !== undefined) throw keys.error("needs", `does not name "${needless}", which there is a fallback for`);
  return tool;
}

export function checkPart(raw: unknown, file: string): Part {
  const keys = new Keys(raw, file);
  const part = readPart(keys);
  keys.refuseOthers();
  return part;
}

export function checkCategory(raw: unknown, file: string, id: string, tools: Tool[]): Category {
  const keys = new Keys(raw, file);
  const category = {
    id,
    question: keys.line("question"),
    about: keys.line("about"),
    default: keys.text("default"),
    order: keys.number("order"),
    tools,
  };
  keys.refuseOthers();
  if (!tools.some((tool) => tool.id === category.default)) {
    throw keys.error("default", `names no tool of this category (${tools.map((tool) => tool.id).join(", ")})`);
  }
  return category;
}

/** The package a requirement or a pin is for, as PyPI compares names. */
export function packageOf(requirement: string): string {
  return normalizeName(requirement.match(NAME)?.[0] ?? requirement);
}

export function normalizeName(name: string): string {
  return name.toLowerCase().replace(/[-_.]+/g, "-");
}

const NAME = /^[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?/i;
const REQUIREMENT = /^[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?(?:\[[a-z0-9._, -]+\])?(?<specifier>[^;@"\\]*)(?:;[^"\\]+)?$/i;
const CAP = /<|==|~=|!=/;

function readPart(keys: Keys): Part {
  const python = keys.python("python");
  return {
    ...(python === undefined ? {} : { python }),
    needs: keys.texts("needs"),
    provides: keys.texts("provides"),
    dependencies: keys.requirements("dependencies"),
    devDependencies: keys.requirements("dev_dependencies"),
    environment: keys.variables("environment"),
    ports: keys.numbers("ports"),
    nextSteps: keys.texts("next_steps"),
  };
}

/** Reads the keys of one mapping, and knows afterwards which ones nobody asked for. */
class Keys {
  readonly #values: Record<string, unknown>;
  readonly #file: string;
  readonly #known = new Set<string>();

  constructor(raw: unknown, file: string) {
    this.#file = file;
    if (!isMapping(raw)) throw this.error("", `expected a mapping, found ${kindOf(raw)}`);
    this.#values = raw;
  }

  text(key: string): string {
    const value = this.#take(key);
    if (typeof value !== "string" || value.trim() === "") throw this.#wrongType(key, "a text", value);
    return value.trim();
  }

  line(key: string): string {
    const text = this.text(key);
    if (text.includes("\n")) throw this.error(key, "must be one line");
    return text;
  }

  number(key: string): number {
    const value = this.#take(key);
    if (typeof value !== "number") throw this.#wrongType(key, "a number", value);
    return value;
  }

  texts(key: string): string[] {
    return this.#list(key).map((value, index) => {
      if (typeof value !== "string" || value === "") throw this.#wrongType(`${key}[${index}]`, "a text", value);
      return value;
    });
  }

  numbers(key: string): number[] {
    return this.#list(key).map((value, index) => {
      if (!Number.isInteger(value)) throw this.#wrongType(`${key}[${index}]`, "a whole number", value);
      return value as number;
    });
  }

  requirements(key: string): Requirement[] {
    return this.#list(key).map((value, index) => this.#requirement(value, `${key}[${index}]`));
  }

  python(key: string): Part["python"] {
    const value = this.#take(key);
    if (value === undefined) return undefined;
    const keys = new Keys(value, `${this.#file}: ${key}`);
    const python = { below: keys.text("below"), why: keys.line("why") };
    if (!/^3\.\d+$/.test(python.below)) throw keys.error("below", `is no version such as "3.14": "${python.below}"`);
    keys.refuseOthers();
    return python;
  }

  variables(key: string): Variable[] {
    return this.#list(key).map((value, index) => {
      const keys = new Keys(value, `${this.#file}: ${key}[${index}]`);
      const name = keys.text("name");
      if (!/^[A-Z][A-Z0-9_]*$/.test(name)) throw keys.error("name", `is no environment variable: "${name}"`);
      const variable = {
        name,
        about: keys.text("about"),
        example: keys.optional("example", "string", ""),
        secret: keys.optional("secret", "boolean", false),
      };
      if (variable.example.includes("\n")) throw keys.error("example", "must be one line");
      keys.refuseOthers();
      return variable;
    });
  }

  optional<T extends string | boolean>(key: string, type: "string" | "boolean", fallback: T): T {
    const value = this.#take(key) ?? fallback;
    if (typeof value !== type) throw this.#wrongType(key, type === "string" ? "a text" : "true or false", value);
    return value as T;
  }

  refuseOthers(): void {
    const unknown = Object.keys(this.#values).filter((key) => !this.#known.has(key));
    if (unknown.length > 0) {
      throw this.error(unknown.join(", "), `unknown key; known are ${[...this.#known].join(", ")}`);
    }
  }

  error(key: string, problem: string): UserError {
    const place = key === "" ? this.#file : `${this.#file}: ${key}`;
    return new UserError({
      code: "manifest",
      message: `${place}: ${problem}`,
      hint: "Edit that file and build again.",
    });
  }

  #requirement(value: unknown, place: string): Requirement {
    let requirement: Requirement;
    if (typeof value === "string") {
      requirement = { requirement: value };
    } else {
      const keys = new Keys(value, `${this.#file}: ${place}`);
      requirement = { requirement: keys.text("requirement"), why: keys.line("why") };
      keys.refuseOthers();
    }
    const specifier = requirement.requirement.match(REQUIREMENT)?.groups?.["specifier"];
    if (specifier === undefined) throw this.error(place, `is no requirement: "${requirement.requirement}"`);
    if (CAP.test(specifier) && requirement.why === undefined) {
      throw this.error(place, `"${requirement.requirement}" caps a version; say in "why" what for`);
    }
    return requirement;
  }

  #list(key: string): unknown[] {
    const value = this.#take(key) ?? [];
    if (!Array.isArray(value)) throw this.#wrongType(key, "a list", value);
    return value;
  }

  #take(key: string): unknown {
    this.#known.add(key);
    return this.#values[key];
  }

  #wrongType(key: string, expected: string, value: unknown): UserError {
    return this.error(key, `expected ${expected}, found ${kindOf(value)}`);
  }
}

function isMapping(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function kindOf(value: unknown): string {
  if (value === undefined || value === null) return "nothing";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "a mapping";
  return value === "" ? "an empty text" : `${JSON.stringify(value)}`;
}
