import { randomBytes } from "node:crypto";
import { mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Cancelled } from "../errors.ts";
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
  await writeFile(log, transcript);
  return { ...verdict, log };
}

/** Verifies a project in a temporary folder, of which nothing is left. Throws `Cancelled` when it is ended early. */
export async function verifyAside(subject: Choice): Promise<Verdict & Pick<Report, "transcript">> {
  // Its real path is where what works in it is found.
  const place = await realpath(await mkdtemp(join(tmpdir(), "create-ai-stack-verify-")));
  try {
    const { outcomes, transcript } = await verify({ ...subject, place });
    if (subject.signal.aborted) throw new Cancelled(`Nothing of ${subject.project} is left running.`);
    return { passed: outcomes.every(({ result }) => result === "passed"), phases: outcomes, transcript };
  } finally {
    await rm(place, { recursive: true, force: true, maxRetries: 5 });
  }
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
