import compiled from "compiled:catalogue";
import { EXIT } from "../errors.ts";
import type { Output } from "../output.ts";
import { findProject, readProject } from "../project.ts";
import { abortOnSignals } from "../signals.ts";
import { checkPhases, settingsIn, type Verdict, verifyProject } from "../verify/verify.ts";

/** Verifies the project here. Returns the exit code. */
export async function verify(phases: string | undefined, output: Output): Promise<number> {
  const { root, ...choices } = readProject(findProject(process.cwd()));
  const only = phases?.split(",").map((phase) => phase.trim());
  if (only !== undefined) checkPhases(only);
  const verdict = await verifyAloud(
    { project: root, name: choices.name, signal: abortOnSignals(), phases: only },
    output,
  );
  output.result({ ...outcomeOf(verdict), directory: root, ...choices, ...verdict });
  return verdict.passed ? EXIT.ok : EXIT.failure;
}

/** Verifies a project that was just created. */
export async function verifyNew(
  project: string,
  name: string,
  signal: AbortSignal,
  output: Output,
): Promise<{ verification?: Verdict }> {
  const verification = await verifyAloud({ project, name, signal }, output);
  return { ...outcomeOf(verification), verification };
}

/** What each command's JSON has. */
function outcomeOf({ passed, phases }: Verdict) {
  if (passed) return { ok: true };
  const failed = phases.filter(({ result }) => result === "failed").map(({ phase }) => phase);
  return { ok: false, error: { code: "verify", message: `Failed: ${failed.join(", ")}.`, hint: "See phases." } };
}

/** Says how each phase goes. */
async function verifyAloud(subject: Parameters<typeof verifyProject>[0], output: Output): Promise<Verdict> {
  const { say, progress, colors } = output;
  const verdict = await verifyProject({
    ...subject,
    settings: settingsIn(compiled),
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
