import { EXIT, UserError } from "../errors.ts";
import type { Output } from "../output.ts";
import { findProject, readProject } from "../project.ts";
import { abortOnSignals } from "../signals.ts";
import { PHASES, type Verdict, verifyProject } from "../verify/verify.ts";

/** Verifies the project here. Returns the exit code. */
export async function verify(phases: string | undefined, output: Output): Promise<number> {
  const { root, ...choices } = readProject(findProject(process.cwd()));
  const only = phases === undefined ? undefined : readPhases(phases);
  const verdict = await verifyAloud(
    { project: root, name: choices.name, signal: abortOnSignals(), phases: only },
    output,
  );
  output.result({ directory: root, ...choices, ...verdict });
  return verdict.passed ? EXIT.ok : EXIT.failure;
}

/** Verifies a project that was just created. */
export async function verifyNew(
  project: string,
  name: string,
  signal: AbortSignal,
  output: Output,
): Promise<{ verification?: Verdict }> {
  return { verification: await verifyAloud({ project, name, signal }, output) };
}

/** Says how each phase goes. */
async function verifyAloud(subject: Parameters<typeof verifyProject>[0], output: Output): Promise<Verdict> {
  const { say, progress, colors } = output;
  const verdict = await verifyProject({
    ...subject,
    progress,
    onOutcome: ({ phase, result, seconds, output }) => {
      const mark = { passed: colors.green("✔"), failed: colors.red("✖"), "left out": "-" }[result];
      say(`${mark} ${phase.padEnd(9)} ${result === "left out" ? result : `${seconds.toFixed(1).padStart(6)} s`}`);
      if (output !== "") say(output.trimEnd().replace(/^/gm, "    "));
    },
  });
  if (verdict.log !== undefined) say(`All commands, with what they printed: ${verdict.log}`);
  return verdict;
}

function readPhases(text: string): string[] {
  const given = text.split(",");
  const unknown = given.find((phase) => !(PHASES as readonly string[]).includes(phase));
  if (unknown === undefined) return given;
  const message = `--phases ${text}: there is no ${unknown === "" ? "empty phase" : unknown}.`;
  throw new UserError({ code: "unknown-phase", message, value: unknown, hint: `Take some of: ${PHASES.join(",")}` });
}
