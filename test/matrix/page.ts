import type { Catalogue, TemplateFiles } from "../../src/catalogue.ts";
import { packageOf } from "../../src/tool.ts";
import type { Outcome } from "../../src/verify/verify.ts";
import { allOf, type Combination, nameOf } from "./combinations.ts";
import { hashOf } from "./prove.ts";

// docs/combinations.md: written from results, and read again for what a later matrix does not run.

/** What was found out about a combination. */
export interface Result {
  /** Of the rendered files. */
  hash: string;
  /** Of this repository, when it was verified. */
  commit: string;
  date: string;
  machine: string;
  /** Package → version, as installed. */
  packages: Record<string, string>;
  outcomes: Outcome[];
}

/** The texts in the tables. */
export interface Page {
  /** By combination. */
  rows: Map<string, Row>;
  /** Commit → when and where it was tested last. */
  runs: Map<string, string>;
  /** Combination → the packages that its tools ask for, as installed: one tool may hold back those of another. */
  versions: Map<string, string>;
}

interface Row {
  result: string;
  create: string;
  install: string;
  answer: string;
  tests: string;
  commit: string;
  hash: string;
}

const NONE = "-";
const NOT_RUN: Row = {
  result: "not run",
  create: NONE,
  install: NONE,
  answer: NONE,
  tests: NONE,
  commit: NONE,
  hash: NONE,
};

export function parse(text: string): Page {
  const tables = text.split("\n\n").filter((block) => block.startsWith("| "));
  const [rows = [], runs = [], versions = []] = tables.map((block) => {
    const [, , ...lines] = block.trimEnd().split("\n");
    return lines.map((line) => line.slice(2, -2).split(" | "));
  });
  return {
    rows: new Map(
      rows.map(([name = "", result = "", _emulated, ...figures]) => {
        const [create = "", install = "", answer = "", tests = "", commit = "", hash = ""] = figures;
        return [name, { result, create, install, answer, tests, commit, hash }];
      }),
    ),
    runs: new Map(runs.map(([commit = "", where = ""]) => [commit, where])),
    versions: new Map(versions.map(([name = "", packages = ""]) => [name, packages])),
  };
}

/** Takes the place of what the page has told of the combination. */
export function add(page: Page, combination: Combination, result: Result, { categories }: Catalogue): void {
  const { commit, outcomes, packages } = result;
  page.rows.set(nameOf(combination), {
    result: outcomes.every((outcome) => outcome.result === "passed") ? "passed" : "FAILED",
    create: secondsOf(outcomes, "create"),
    install: secondsOf(outcomes, "install"),
    answer: secondsOf(outcomes, "start", "ask"),
    tests: secondsOf(outcomes, "tests"),
    commit,
    hash: short(result.hash),
  });
  page.runs.set(commit, `${result.date}, ${result.machine}`);
  const wanted = categories
    .flatMap(({ tools }) => tools)
    .filter(({ id, category }) => combination[category] === id)
    .flatMap(({ dependencies, devDependencies }) => [...dependencies, ...devDependencies])
    .map(({ requirement }) => packageOf(requirement));
  const found = [...new Set(wanted)].filter((name) => packages[name] !== undefined);
  page.versions.set(nameOf(combination), found.map((name) => `${name} ${packages[name]}`).join(", ") || NONE);
}

/** Those combinations that there are, in the order of the catalogue, and what belongs to their commits. */
export function render({ rows, runs, versions }: Page, catalogue: Catalogue): string {
  const tools = catalogue.categories.flatMap((category) => category.tools);
  const entries = allOf(catalogue).map((combination) => {
    const chosen = tools.filter(({ id, category }) => combination[category] === id);
    const emulated = chosen.filter((tool) => tool.emulated !== "").map(({ id }) => id);
    return { name: nameOf(combination), emulated, row: rows.get(nameOf(combination)) ?? NOT_RUN };
  });
  const commits = [...new Set(entries.map(({ row }) => row.commit))].filter((commit) => commit !== NONE);
  return `# Combinations

Written by \`npm run test:matrix\`, never by hand. \`npm run matrix:stale\` names the rows whose projects have other files
today.

Passed means that the project of these four tools was created, installed, linted, type-checked and tested, answered a
question, carried a run on after two \`kill -9\` without a recorded step twice, left nothing running, found nothing amiss
by its own \`doctor\`, and sent one whole trace of a question, without a secret, to a receiver that speaks the protocol of
its observability tool. No account of a service took part in it. Not run means that nothing is known of it.

Seconds are those of one run on one machine. Create is the command without installation; install is \`uv sync\`, with uv's
cache as it was: a package that an earlier project has brought is not downloaded again; first answer is from \`dev\`, on no
data, to the answer of \`ask\`; test is the project's own tests. The hash is of all files of the project.

${table(
  ["Combination", "Result", "Emulated", "Create", "Install", "First answer", "Test", "Commit", "Hash"],
  entries.map(({ name, emulated, row: { result, ...figures } }) => [
    name,
    result,
    emulated.join(", ") || NONE,
    ...[figures.create, figures.install, figures.answer, figures.tests, figures.commit, figures.hash],
  ]),
)}

Emulated where no server of one's own is named:

${tools.flatMap(({ id, emulated }) => (emulated === "" ? [] : [`- ${id}: ${emulated}`])).join("\n")}

## When and where

${table(
  ["Commit", "Last run"],
  commits.map((commit) => [commit, runs.get(commit) ?? NONE]),
)}

## Versions

What the tools of each ask for, as it was installed.

${table(
  ["Combination", "Packages"],
  entries.flatMap(({ name }) => (versions.has(name) ? [[name, versions.get(name) ?? NONE]] : [])),
)}
`;
}

/** A line for each combination that the page does not tell the truth about. */
export function stale({ rows }: Page, catalogue: Catalogue, files: TemplateFiles): string[] {
  const names = allOf(catalogue).map(nameOf);
  const extra = [...rows.keys()].filter((name) => !names.includes(name));
  const wrong = allOf(catalogue).flatMap((combination) => {
    const row = rows.get(nameOf(combination));
    if (row === undefined) return [`${nameOf(combination)}: has no row`];
    if (row.hash === NONE) return [`${nameOf(combination)}: not run`];
    const isSame = row.hash === short(hashOf(combination, catalogue, files));
    return isSame ? [] : [`${nameOf(combination)}: its files have changed since ${row.commit}`];
  });
  return [...wrong, ...extra.map((name) => `${name}: there is no such combination`)];
}

function short(hash: string): string {
  return hash.slice(0, 12);
}

function secondsOf(outcomes: Outcome[], ...phases: string[]): string {
  const found = outcomes.filter(({ phase, result }) => phases.includes(phase) && result === "passed");
  if (found.length < phases.length) return NONE;
  return found.reduce((sum, { seconds }) => sum + seconds, 0).toFixed(1);
}

function table(header: string[], rows: string[][]): string {
  const lines = [header, header.map(() => "---"), ...rows];
  return lines.map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}
