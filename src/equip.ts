import { Cancelled, UserError } from "./errors.ts";

export interface Equipment {
  folder: string;
  /** The content of the project's constraints.txt. */
  constraints: string;
  install: boolean;
  git: boolean;
  verbose: boolean;
  signal: AbortSignal;
  /** Tells what is going on while it goes on. */
  progress: <T>(label: string, work: () => Promise<T>) => Promise<T>;
}

/**
 * Dependencies, then git: so that uv.lock is in the first commit. Returns notes where it went another way than usual.
 * Throws when the dependencies cannot be installed, after the commit.
 */
export async function equip({ folder, constraints, verbose, signal, ...wanted }: Equipment): Promise<string[]> {
  const notes: string[] = [];
  let failure: unknown;
  if (wanted.install) {
    const { install } = await import("./install.ts");
    const work = () => install({ folder, constraints, verbose, signal });
    try {
      notes.push(...(await wanted.progress("Installing the dependencies", work)));
    } catch (error) {
      if (error instanceof Cancelled || !(error instanceof UserError)) throw error;
      failure = error;
    }
  }
  if (wanted.git) {
    const { commitFirst } = await import("./git.ts");
    const note = await commitFirst(folder, signal);
    if (note !== undefined) notes.push(note);
  }
  if (failure !== undefined) throw failure;
  return notes;
}
