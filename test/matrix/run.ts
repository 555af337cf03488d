import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { execa } from "execa";
import type { Catalogue, TemplateFiles } from "../../src/catalogue.ts";
import { EXIT, UserError } from "../../src/errors.ts";
import { readTemplates } from "../../src/read-templates.ts";
import { allOf, type Combination, nameOf, pairwiseOf } from "./combinations.ts";
import { defaultJobs, hashOf, prove, sideBySide } from "./prove.ts";
import { type Row, table } from "./table.ts";
import { clear, type Outcome, PHASES, type Phase } from "./verify.ts";

/** What is kept of a combination, below `results/`. */
interface Result {
  /** Of the rendered files. */
  hash: string;
  /** Of this repository, when it was verified. */
  commit: string;
  phases: readonly Phase[];
  outcomes: Outcome[];
}

interface Matrix {
  root: string;
  /** Where results, logs, and projects under way are kept. */
  folder: string;
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
  const { folder, phases, jobs, fresh, chosen } = readOptions(argv, catalogue);
  const matrix = { root, folder: resolve(root, folder), phases, catalogue, files, signal: abortOnSignals() };
  const unlock = await lock(matrix.folder);
  try {
    // What a matrix that was killed has left.
    await clear(join(matrix.folder, "work"));
    if (fresh) await Promise.all(chosen.map((combination) => rm(resultFile(matrix, combination), { force: true })));
    const rows: Row[] = [];
    await sideBySide(chosen, jobs, async (combination, job) => {
      if (!matrix.signal.aborted) rows.push(await rowOf(combination, job, matrix));
    });
    return show(rows, chosen, matrix);
  } finally {
    await unlock();
  }
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
        folder: { type: "string", default: ".matrix" },
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
  const result: Result = { hash, commit: await commitOf(root), phases, outcomes };
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

async function readResult(file: string): Promise<Result | undefined> {
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

async function commitOf(root: string): Promise<string> {
  const { stdout } = await execa("git", ["describe", "--always", "--dirty", "--abbrev=40"], {
    cwd: root,
    reject: false,
  });
  return stdout || "unknown";
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
