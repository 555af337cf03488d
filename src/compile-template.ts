import Handlebars from "handlebars";
import { UserError } from "./errors.ts";
import { NAMES, type Template } from "./template.ts";

/**
 * A template holds values and plain loops, nothing else: a condition in a template is a seam that the generated
 * code lacks. So what handlebars parsed becomes data, and the CLI needs neither its compiler nor its runtime.
 */
export function compileTemplate(source: string, file: string): Template {
  let program: hbs.AST.Program;
  try {
    program = Handlebars.parse(source);
  } catch (error) {
    throw problem(file, (error as Error).message);
  }
  return program.body.flatMap((statement) => compileStatement(statement, file, undefined));
}

type ListName = keyof typeof NAMES;

function compileStatement(statement: hbs.AST.Statement, file: string, list: ListName | undefined): Template {
  const place = `${file}:${statement.loc.start.line}`;
  switch (statement.type) {
    case "ContentStatement":
      return [(statement as hbs.AST.ContentStatement).value];
    case "CommentStatement":
      return [];
    case "MustacheStatement":
      return [compileValue(statement as hbs.AST.MustacheStatement, place, list)];
    case "BlockStatement":
      return [compileLoop(statement as hbs.AST.BlockStatement, place, file, list)];
    default:
      throw problem(place, `${statement.type} is not allowed; a template has {{name}} and {{#each list}} only`);
  }
}

function compileValue(statement: hbs.AST.MustacheStatement, place: string, list: ListName | undefined) {
  const name = (statement.path as hbs.AST.PathExpression).original;
  if (statement.params.length > 0 || statement.hash !== undefined) throw problem(place, `helper call: {{${name} …}}`);
  const known: readonly string[] = list === undefined ? textNames() : NAMES[list];
  if (!known.includes(name)) throw problem(place, `{{${name}}} is unknown here; known are ${known.join(", ")}`);
  return { value: name };
}

function compileLoop(block: hbs.AST.BlockStatement, place: string, file: string, list: ListName | undefined) {
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
  return { each: name, body: block.program.body.flatMap((statement) => compileStatement(statement, file, name)) };
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
