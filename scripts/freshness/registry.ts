import { execa } from "execa";

/** A registry gave no answer, or none that fits. */
export class RegistryError extends Error {
  /** All that was printed of it. */
  readonly details: string;

  constructor(message: string, details = "") {
    super(message);
    this.details = details;
  }
}

interface Call {
  cwd?: string;
  input?: string;
  env?: Record<string, string>;
}

/** What `program` prints. Where it fails, the first line that it says of a cause is told. */
export async function ask(program: string, args: string[], call: Call): Promise<string> {
  const result = await execa(program, args, { ...call, reject: false });
  if (!result.failed) return result.stdout;
  const details = `${result.stderr}`;
  const [failure] = `${result.shortMessage}`.split("\n");
  throw new RegistryError(`${program} got no answer: ${causeIn(details) ?? failure}`, details);
}

/** The innermost cause that uv names, or the first line of npm's that says more than a code. */
export function causeIn(stderr: string): string | undefined {
  const lines = stderr.split("\n").map((line) => line.trim());
  const causes = lines.filter((line) => line.startsWith("cause: "));
  const errors = lines.filter(
    (line) => /^(?:npm )?error:? /.test(line) && !/^npm error (?:code|errno|syscall) /.test(line),
  );
  return (causes.at(-1) ?? errors[0])?.replace(/^(?:cause: |(?:npm )?error:? )/, "");
}
