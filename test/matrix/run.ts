import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { cpus, totalmem } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { execa } from "execa";
import type { Catalogue, TemplateFiles } from "../../src/catalogue.ts";
import { EXIT, UserError } from "../../src/errors.ts";
import { readTemplates } from "../../src/read-templates.ts";
import { normalizeName } from "../../src/tool.ts";
import { clear } from "../../src/verify/verification.ts";
import type { Outcome } from "../../src/verify/verify.ts";
import { allOf, type Combination, nameOf, pairwiseOf } from "./combinations.ts";
import { add, parse, type Result, render, stale } from "./page.ts";
import { defaultJobs, hashOf, NAME, PHASES, type Phase, prove, sideBySide } from "./prove.ts";
import { type Row, table } from "./table.ts";

/** What is kept of a combination, below `results/`. */
interface Kept extends Result {
  phases: readonly Phase[];
}

const FOLDER = ".matrix";
const PAGE = "docs/combinations.md";

interface Matrix {
  root: string;
  /** Where results, logs, and projects under way are kept. */
  folder: string;
  commit: string;
  jobs: number;
  phases: readonly Phase[];
  catalogue: Catalogue;
  files: TemplateFiles;
  signal: AbortSignal;
}

/** One command line of the matrix; returns the exit code. Expects the built command in `root`. */
export async function run(root: string, argv: string[]): Promise<number> {
  try {
    return await runMatrix(root, argv);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    console.error(`${error.message}\n${error.hint}`);
    return error.exitCode;
  }
}

async function runMatrix(root: string, argv: string[]): Promise<number> {
  const { catalogue, files } = await readTemplates(join(root, "templates"));
  const { folder, phases, jobs, chosen, ...options } = readOptions(argv, catalogue);
  if (options.stale) return showStale(root, catalogue, files);
  const given = { root, folder: resolve(root, folder), commit: await commitOf(root), jobs, phases };
  const matrix = { ...given, catalogue, files, signal: abortOnSignals() };
  const unlock = await lock(matrix.folder);
  try {
    // What a matrix that was killed has left.
    await clear(join(matrix.folder, "work"));
    if (options.fresh) await Promise.all(chosen.map((each) => rm(resultFile(matrix, each), { force: true })));
    const rows: Row[] = [];
    await sideBySide(chosen, jobs, async (combination, job) => {
      if (!matrix.signal.aborted) rows.push(await rowOf(combination, job, matrix));
    });
    if (folder === FOLDER && phases.length === PHASES.length) await writePage(chosen, matrix);
    return show(rows, chosen, matrix);
  } finally {
    await unlock();
  }
}

/** With what these have resulted in, and for the other combinations what it has told so far. */
async function writePage(chosen: Combination[], matrix: Matrix): Promise<void> {
  const { root, catalogue, files } = matrix;
  const page = await readPage(root);
  for (const combination of chosen) {
    const result = await readResult(resultFile(matrix, combination));
    const isWhole = PHASES.every((phase) => result?.phases.includes(phase));
    const isSame = result?.hash === hashOf(combination, catalogue, files);
    if (result !== undefined && isWhole && isSame) add(page, combination, result, catalogue);
  }
  await writeFile(join(root, PAGE), render(page, catalogue));
}

async function showStale(root: string, catalogue: Catalogue, files: TemplateFiles): Promise<number> {
  const lines = stale(await readPage(root), catalogue, files);
  console.log(lines.join("\n") || `${PAGE} is up to date.`);
  return lines.length === 0 ? EXIT.ok : EXIT.failure;
}

async function readPage(root: string) {
  return parse(await readFile(join(root, PAGE), "utf8").catch(() => ""));
}

function readOptions(argv: string[], catalogue: Catalogue) {
  const values = parseOptions(argv);
  const tools = catalogue.categories.flatMap((category) => category.tools.map(({ id }) => id));
  const only = readList("only", values.only, tools);
  const phases = readList("phases", values.phases, PHASES);
  const jobs = Number(values.jobs);
  if (!Number.isInteger(jobs) || jobs < 1) throw usage(`--jobs ${values.jobs}: no such number.`, "Give one from 1 up.");
  const chosen = (values.pairwise ? pairwiseOf : allOf)(catalogue).filter((combination) =>
    catalogue.categories.every(({ id, tools: candidates }) => {
      const wanted = candidates.filter((tool) => only.includes(tool.id));
      return wanted.length === 0 || wanted.some((tool) => tool.id === combination[id]);
    }),
  );
  return { ...values, phases, jobs, chosen };
}

function parseOptions(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        pairwise: { type: "boolean", default: false },
        only: { type: "string", default: "" },
        phases: { type: "string", default: PHASES.join(",") },
        jobs: { type: "string", default: String(defaultJobs()) },
        fresh: { type: "boolean", default: false },
        folder: { type: "string", default: FOLDER },
        stale: { type: "boolean", default: false },
      },
    }).values;
  } catch (error) {
    throw usage((error as Error).message, "See CONTRIBUTING.md.");
  }
}

function readList<Value extends string>(option: string, text: string, known: readonly Value[]): Value[] {
  const given = text.split(",").filter((value) => value !== "");
  const unknown = given.filter((value) => !(known as readonly string[]).includes(value));
  if (unknown.length === 0) return known.filter((value) => given.includes(value));
  throw usage(`--${option} ${unknown.join(",")}: no such value.`, `Take some of: ${known.join(", ")}.`);
}

function usage(message: string, hint: string): UserError {
  return new UserError({ code: "usage", message, hint });
}

function resultFile({ folder }: Matrix, combination: Combination): string {
  return join(folder, "results", `${nameOf(combination)}.json`);
}

/** From its result, where its files have not changed since it passed; else it is verified. */
async function rowOf(combination: Combination, job: number, matrix: Matrix): Promise<Row> {
  const name = nameOf(combination);
  const hash = hashOf(combination, matrix.catalogue, matrix.files);
  const earlier = await readResult(resultFile(matrix, combination));
  const isSame = earlier?.hash === hash && matrix.phases.every((phase) => earlier.phases.includes(phase));
  if (isSame && hasPassed(earlier.outcomes)) {
    console.log(`${name}: passed earlier, and its files are the same`);
    return { name, outcomes: earlier.outcomes, note: "passed earlier" };
  }
  return verifyAnew(combination, hash, job, matrix);
}

async function verifyAnew(combination: Combination, hash: string, job: number, matrix: Matrix): Promise<Row> {
  const { root, folder, phases, signal } = matrix;
  const name = nameOf(combination);
  const place = join(folder, "work", name);
  const log = join(folder, "logs", `${name}.log`);
  await rm(place, { recursive: true, force: true });
  await rm(log, { force: true });
  const cli = [process.execPath, join(root, "bin/create-ai-stack.js")];
  const onOutcome = ({ phase, result, seconds }: Outcome) =>
    console.log(`${name}: ${phase} ${result} (${seconds.toFixed(1)} s)`);
  const cache = join(folder, "mypy", String(job));
  const { outcomes, transcript } = await prove({ combination, cli, place, cache, phases, signal, onOutcome });
  if (signal.aborted) {
    await rm(place, { recursive: true, force: true });
    return { name, outcomes, note: "interrupted" };
  }
  const facts = await factsOf(join(place, NAME), matrix);
  const result: Kept = { hash, commit: matrix.commit, ...facts, phases, outcomes };
  await write(resultFile(matrix, combination), JSON.stringify(result, null, 2));
  if (hasPassed(outcomes)) {
    await rm(place, { recursive: true, force: true });
    return { name, outcomes, note: "passed" };
  }
  const failures = outcomes.filter(({ result }) => result === "failed");
  await write(log, `${failures.map(({ phase, output }) => `${phase}: ${output}`).join("\n")}\n\n${transcript}`);
  return { name, outcomes, note: "FAILED", log, place };
}

function show(rows: Row[], chosen: Combination[], { signal }: Matrix): number {
  const order = chosen.map(nameOf);
  rows.sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
  console.log(`\n${table(rows)}`);
  for (const { name, log, place } of rows.filter((row) => row.log !== undefined)) {
    console.log(`\n${name} failed: ${log}\n  its project: ${place}`);
  }
  if (signal.aborted) {
    console.log("\nInterrupted. The same command, without --fresh, goes on from here.");
    return EXIT.cancelled;
  }
  return rows.every(({ outcomes }) => hasPassed(outcomes)) ? EXIT.ok : EXIT.failure;
}

function hasPassed(outcomes: Outcome[]): boolean {
  return outcomes.every(({ result }) => result === "passed");
}

async function readResult(file: string): Promise<Kept | undefined> {
  try {
    return JSON.parse(await readFile(file, "utf8"));
  } catch {
    // It is not there, or was cut off.
    return undefined;
  }
}

async function write(file: string, content: string): Promise<void> {
  await mkdir(join(file, ".."), { recursive: true });
  await writeFile(file, content);
}

/** What it writes itself does not count as a change. */
async function commitOf(root: string): Promise<string> {
  const git = async (...args: string[]) => (await execa("git", args, { cwd: root, reject: false })).stdout;
  const commit = await git("rev-parse", "--short=12", "HEAD");
  const changes = await git("status", "--porcelain", "--", ".", `:(exclude)${PAGE}`);
  return (commit || "unknown") + (changes === "" ? "" : "-dirty");
}

const FACTS = `
import json, platform
from importlib.metadata import distributions
packages = {each.metadata["Name"]: each.version for each in distributions()}
print(json.dumps([platform.freedesktop_os_release()["PRETTY_NAME"], platform.python_version(), packages]))
`;

/** When and where it was tested, and with which packages: none, where it could not be installed. */
async function factsOf(project: string, { jobs }: Matrix): Promise<Pick<Result, "date" | "machine" | "packages">> {
  const python = join(project, ".venv/bin/python");
  const { stdout, failed } = await execa(python, ["-c", FACTS], { reject: false });
  const [system, version, found] = failed ? ["Linux", "unknown", {}] : JSON.parse(stdout);
  const cores = `${cpus().length} × ${cpus()[0]?.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB`;
  const packages = Object.entries<string>(found).map(([name, number]) => [normalizeName(name), number]);
  return {
    date: new Date().toISOString().slice(0, 10),
    machine: `${cores}, ${system}, Python ${version}, Node ${process.versions.node}, ${jobs} at a time`,
    packages: Object.fromEntries(packages),
  };
}

/** Two at once would take each other's projects. */
async function lock(folder: string): Promise<() => Promise<void>> {
  const file = join(folder, "pid");
  const other = Number(await readFile(file, "utf8").catch(() => ""));
  if (other > 0 && isAlive(other)) throw usage(`Process ${other} works in ${folder}.`, `If not, remove ${file}.`);
  await write(file, String(process.pid));
  return () => rm(file);
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

function abortOnSignals(): AbortSignal {
  const controller = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => controller.abort());
  return controller.signal;
}
