import Handlebars from "handlebars";
import { UserError } from "./errors.ts";

/** All that a template can name: texts, and lists of records of texts. */
export type TemplateData = Record<keyof typeof NAMES, string | Record<string, string>[]>;

/** Every name a template may use; a list has the names of its items. */
const NAMES = {
  name: [],
  recreate: [],
  tools: ["category", "id", "title", "homepage", "choose", "section"],
  dependencies: ["requirement", "comment"],
  dev_dependencies: ["requirement", "comment"],
  ports: ["port"],
  next_steps: ["step"],
} as const satisfies Record<string, readonly string[]>;

const OPTIONS = { noEscape: true, strict: true };

export function compileTemplate(source: string): (data: TemplateData) => string {
  return Handlebars.compile(source, OPTIONS);
}

/** The code of what handlebars' runtime makes a function of: so the CLI needs no compiler. */
export function precompileTemplate(source: string): string {
  return Handlebars.precompile(source, OPTIONS) as string;
}

/**
 * Templates hold values and plain loops, nothing else: a condition in a template is a seam that the generated
 * code lacks. `strict` renders a missing list as an empty one, so the names are checked here.
 */
export function lintTemplate(source: string, file: string): void {
  let program: hbs.AST.Program;
  try {
    program = Handlebars.parse(source);
  } catch (error) {
    throw problem(file, (error as Error).message);
  }
  checkStatements(program.body, file, undefined);
}

type ListName = keyof typeof NAMES;

function checkStatements(statements: hbs.AST.Statement[], file: string, list: ListName | undefined): void {
  for (const statement of statements) {
    const place = `${file}:${statement.loc.start.line}`;
    if (statement.type === "MustacheStatement") {
      checkValue(statement as hbs.AST.MustacheStatement, place, list);
    } else if (statement.type === "BlockStatement") {
      checkLoop(statement as hbs.AST.BlockStatement, place, file, list);
    } else if (statement.type !== "ContentStatement" && statement.type !== "CommentStatement") {
      throw problem(place, `${statement.type} is not allowed; a template has {{name}} and {{#each list}} only`);
    }
  }
}

function checkValue(statement: hbs.AST.MustacheStatement, place: string, list: ListName | undefined): void {
  const name = (statement.path as hbs.AST.PathExpression).original;
  if (statement.params.length > 0 || statement.hash !== undefined) throw problem(place, `helper call: {{${name} …}}`);
  const known: readonly string[] = list === undefined ? textNames() : NAMES[list];
  if (!known.includes(name)) throw problem(place, `{{${name}}} is unknown here; known are ${known.join(", ")}`);
}

function checkLoop(block: hbs.AST.BlockStatement, place: string, file: string, list: ListName | undefined): void {
  const [target] = block.params as hbs.AST.PathExpression[];
  const isPlain =
    block.path.type === "PathExpression" &&
    (block.path as hbs.AST.PathExpression).original === "each" &&
    block.params.length === 1 &&
    block.hash === undefined &&
    block.program.blockParams === undefined &&
    (block.inverse as hbs.AST.Program | undefined) === undefined &&
    list === undefined;
  if (!isPlain) throw problem(place, "the only block is a plain {{#each list}}, without {{else}} and not nested");
  const name = target?.original as ListName;
  if (!listNames().includes(name)) {
    throw problem(place, `{{#each ${name}}}: no such list; known are ${listNames().join(", ")}`);
  }
  checkStatements(block.program.body, file, name);
}

function textNames(): string[] {
  return (Object.keys(NAMES) as ListName[]).filter((name) => NAMES[name].length === 0);
}

function listNames(): ListName[] {
  return (Object.keys(NAMES) as ListName[]).filter((name) => NAMES[name].length > 0);
}

function problem(place: string, what: string): UserError {
  return new UserError({ code: "template", message: `${place}: ${what}`, hint: "Mend that template and build again." });
}
