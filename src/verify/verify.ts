import { randomBytes } from "node:crypto";
import { mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Catalogue } from "../catalogue.ts";
import { Cancelled, UserError } from "../errors.ts";
import { diskError } from "../target.ts";
import { type Options, Verification } from "./verification.ts";

/** What is verified of a project, in this order. */
export const PHASES = ["install", "lint", "types", "tests", "start", "ask", "kill", "recover", "stop"] as const;
type Phase = (typeof PHASES)[number];

export interface Subject extends Options {
  /** All of them, unless told otherwise. */
  phases?: readonly string[] | undefined;
  /** Phases besides: each is given what has verified the others. */
  more?: Record<string, (verification: Verification) => Promise<void>>;
  /** Tells what is going on while it goes on. */
  progress?: <T>(phase: string, work: () => Promise<T>) => Promise<T>;
  onOutcome?: ((outcome: Outcome) => void) | undefined;
}

export interface Outcome {
  phase: string;
  /** "left out": what had to come before it failed. */
  result: "passed" | "failed" | "left out";
  seconds: number;
  /** Why it failed: what was expected, and all that was printed. */
  output: string;
}

export interface Report {
  outcomes: Outcome[];
  /** All commands, and what they printed. */
  transcript: string;
}

/** What `verify` tells programs. */
export interface Verdict {
  passed: boolean;
  phases: Outcome[];
  /** A file with all commands and what they printed, where something failed. */
  log?: string;
}

type Choice = Omit<Subject, "place" | "more" | "env">;

/** Verifies a project, and leaves a log where something failed. Throws `Cancelled` when it is ended early. */
export async function verifyProject(subject: Choice): Promise<Verdict> {
  const { transcript, ...verdict } = await verifyAside(subject);
  if (verdict.passed) return verdict;
  const log = join(await realpath(tmpdir()), `create-ai-stack-verify-${randomBytes(4).toString("hex")}.log`);
  // A disk that is full may be why it failed.
  const isWritten = await writeFile(log, transcript, { mode: 0o600 }).then(
    () => true,
    () => false,
  );
  return isWritten ? { ...verdict, log } : verdict;
}

/** Verifies a project in a temporary folder, of which nothing is left. Throws `Cancelled` when it is ended early. */
export async function verifyAside(subject: Choice): Promise<Verdict & Pick<Report, "transcript">> {
  // Its real path is where what works in it is found.
  const place = await makePlace();
  const remove = () => rm(place, { recursive: true, force: true, maxRetries: 10 });
  const { outcomes, transcript } = await verify({ ...subject, place }).catch(async (error) => {
    await remove();
    throw error;
  });
  const removed = await clock("end", remove);
  const ends = [...outcomes.filter(({ phase }) => phase === "end"), removed];
  const left = ends.flatMap(({ result, output }) => (result === "failed" ? [output] : [])).join("\n");
  if (subject.signal.aborted) throw new Cancelled(left || `Nothing of ${subject.project} is left running.`);
  if (removed.result === "failed") subject.onOutcome?.(removed);
  const phases = removed.result === "failed" ? [...outcomes, removed] : outcomes;
  return { passed: phases.every(({ result }) => result === "passed"), phases, transcript };
}

async function makePlace(): Promise<string> {
  try {
    return await realpath(await mkdtemp(join(tmpdir(), "create-ai-stack-verify-")));
  } catch (error) {
    throw diskError(error, tmpdir());
  }
}

/** The variables that are settings of some project. */
export function settingsIn({ base, categories }: Catalogue): string[] {
  const tools = categories.flatMap((category) => category.tools);
  const parts = [base, ...tools, ...tools.flatMap(({ fallbacks }) => Object.values(fallbacks))];
  return parts.flatMap(({ environment }) => environment.map(({ name }) => name));
}

/** Refuses phases that there are not, and some of them without those that they go on from. */
export function checkPhases(given: readonly string[]): void {
  const unknown = given.find((phase) => !(PHASES as readonly string[]).includes(phase));
  const all = `Take some of: ${PHASES.join(",")}`;
  if (unknown !== undefined) throw wrongPhase(`There is no phase ${JSON.stringify(unknown)}.`, unknown, all);
  const needs: Record<string, Phase[]> = {
    kill: ["start", "ask"],
    recover: ["start", "ask", "kill"],
    stop: given.includes("kill") ? ["start", "recover"] : ["start"],
  };
  for (const phase of given) {
    const missing = (needs[phase] ?? []).filter((need) => !given.includes(need));
    if (missing.length === 0) continue;
    const whole = PHASES.filter((each) => given.includes(each) || missing.includes(each)).join(",");
    throw wrongPhase(`${phase} goes on from ${missing.join(" and ")}.`, phase, `Take: ${whole}`);
  }
}

function wrongPhase(message: string, value: string, hint: string): UserError {
  return new UserError({ code: "phases", message, value, hint });
}

/**
 * Goes through the phases, on data of its own and without the user's settings and keys. What fails is an outcome, and no
 * error; when this returns, nothing of the project runs.
 */
export async function verify({ phases, more = {}, progress, onOutcome, ...options }: Subject): Promise<Report> {
  const outcomes: Outcome[] = [];
  const tell = (outcome: Outcome) => {
    outcomes.push(outcome);
    onOutcome?.(outcome);
  };
  const verification = await Verification.begin(options);
  const all = { ...ownPhases(verification), ...more };
  for (const [phase, work] of Object.entries(all).filter(([name]) => phases?.includes(name) ?? true)) {
    const failed = outcomes.some(({ result, phase }) => result !== "passed" && !INDEPENDENT.includes(phase));
    const attempt = () => clock(phase, () => work(verification));
    const outcome = failed ? leftOut(phase) : await (progress?.(phase, attempt) ?? attempt());
    if (options.signal.aborted) break;
    tell(outcome);
  }
  const ended = await clock("end", () => verification.end());
  if (ended.result === "failed") tell(ended);
  return { outcomes, transcript: verification.transcript() };
}

export async function clock(phase: string, work: () => Promise<void>): Promise<Outcome> {
  const started = performance.now();
  const outcome = (result: Outcome["result"], output = "") => {
    return { phase, result, seconds: (performance.now() - started) / 1000, output };
  };
  try {
    await work();
    return outcome("passed");
  } catch (error) {
    return outcome("failed", error instanceof Error ? error.message : String(error));
  }
}

/** Failures in these say nothing about the phases after them. */
const INDEPENDENT: readonly string[] = ["lint", "types", "tests"] satisfies Phase[];

function ownPhases(verification: Verification): Record<string, () => Promise<void>> {
  return Object.fromEntries(PHASES.map((phase) => [phase, () => verification[phase]()]));
}

function leftOut(phase: string): Outcome {
  return { phase, result: "left out", seconds: 0, output: "" };
}
