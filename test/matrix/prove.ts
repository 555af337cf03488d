import { createHash } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { availableParallelism, freemem } from "node:os";
import { join } from "node:path";
import type { Catalogue, TemplateFiles } from "../../src/catalogue.ts";
import { makePlan } from "../../src/plan.ts";
import { render } from "../../src/render.ts";
import { Program } from "../stack/program.ts";
import type { Combination } from "./combinations.ts";
import { clock, complete, type Outcome, type Phase, type Report, verify } from "./verify.ts";

export const NAME = "my-app";

interface Proof {
  combination: Combination;
  /** The command that creates projects. */
  cli: string[];
  /** An empty folder. */
  place: string;
  /** What mypy keeps between projects: for one at a time. */
  cache: string;
  phases?: readonly Phase[];
  signal: AbortSignal;
  onOutcome?: ((outcome: Outcome) => void) | undefined;
}

/** Creates a project in `place`, and verifies it. */
export async function prove({ combination, cli, place, signal, onOutcome, ...rest }: Proof): Promise<Report> {
  const project = join(place, NAME);
  const tools = Object.entries(combination).flatMap(([category, tool]) => [`--${category}`, tool]);
  const command = [...cli, project, "--yes", "--no-git", "--no-install", ...tools];
  await mkdir(place, { recursive: true });
  const program = new Program({ project: place, data: join(place, "data"), command });
  const created = await clock("create", async () => void (await complete(program, command.join(" "), 60)));
  onOutcome?.(created);
  if (created.result === "failed") return { outcomes: [created], transcript: program.output };
  const { outcomes, transcript } = await verify({
    combination,
    project,
    name: NAME,
    place,
    signal,
    onOutcome,
    ...rest,
  });
  return { outcomes: [created, ...outcomes], transcript };
}

/** Of all that a project of the combination is rendered to: the generator's own version does not count. */
export function hashOf(combination: Combination, catalogue: Catalogue, files: TemplateFiles): string {
  const rendered = render(makePlan({ name: NAME, tools: combination }, catalogue, "0.0.0"), files);
  return createHash("sha256")
    .update(JSON.stringify([...rendered]))
    .digest("hex");
}

/** Combinations side by side: as many as there are cores, and memory for what each needs at its highest. */
export function defaultJobs(): number {
  return Math.max(1, Math.min(availableParallelism(), Math.floor(freemem() / 2 ** 31)));
}

/**
 * Works on so many of them at once, in their order, and tells each which of the jobs it is. If one throws, so does this,
 * when the others are done.
 */
export async function sideBySide<Item>(
  items: Item[],
  jobs: number,
  work: (item: Item, job: number) => Promise<void>,
): Promise<void> {
  const open = items.values();
  const workers = Array.from({ length: jobs }, async (_, job) => {
    for (const item of open) await work(item, job);
  });
  for (const end of await Promise.allSettled(workers)) {
    if (end.status === "rejected") throw end.reason;
  }
}
