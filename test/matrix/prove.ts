import { createHash } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { availableParallelism, freemem } from "node:os";
import { join } from "node:path";
import type { Catalogue, TemplateFiles } from "../../src/catalogue.ts";
import { makePlan } from "../../src/plan.ts";
import { render } from "../../src/render.ts";
import { freePort } from "../../src/verify/holdings.ts";
import { ModelServer } from "../../src/verify/model-server.ts";
import { complete, type Verification } from "../../src/verify/verification.ts";
import { clock, type Outcome, type Report, PHASES as VERIFIED, verify } from "../../src/verify/verify.ts";
import { Backend } from "../stack/backend.ts";
import { Program } from "../stack/program.ts";
import { QUESTION, script } from "../stack/script.ts";
import type { Combination } from "./combinations.ts";
import { expectSame } from "./expect-same.ts";
import { Wire } from "./wire.ts";

export const NAME = "my-app";

/** What `create-ai-stack verify` verifies, and what else the matrix does. */
export const PHASES = [...VERIFIED, "win32", "doctor", "trace"] as const;
export type Phase = (typeof PHASES)[number];

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
export async function prove({ combination, cli, place, cache, phases, signal, onOutcome }: Proof): Promise<Report> {
  const project = join(place, NAME);
  const tools = Object.entries(combination).flatMap(([category, tool]) => [`--${category}`, tool]);
  const command = [...cli, project, "--yes", "--no-git", "--no-install", ...tools];
  await mkdir(place, { recursive: true });
  const program = new Program({ project: place, data: join(place, "data"), command });
  const created = await clock("create", async () => void (await complete(program, command.join(" "), 60)));
  onOutcome?.(created);
  if (created.result === "failed") return { outcomes: [created], transcript: program.output };
  const more = {
    // Finds calls that Windows does not have.
    win32: async (service: Verification) => {
      await service.uv("run", "mypy", "--platform", "win32", "--cache-dir", join(cache, "win32"));
    },
    doctor: async (service: Verification) => {
      const found = await service.uv("run", NAME, "doctor");
      if (/^(?!ok ).+/m.test(found)) throw new Error(`something is not ok:\n${found}`);
    },
    trace: (service: Verification) => trace(combination, project, service),
  };
  const env = { MYPY_CACHE_DIR: join(cache, "own"), PORT: String(await freePort()) };
  const { outcomes, transcript } = await verify({ project, name: NAME, place, signal, onOutcome, phases, env, more });
  return { outcomes: [created, ...outcomes], transcript };
}

/** The page, and what is sent for one question, by a service that works alone. */
async function trace(combination: Combination, project: string, service: Verification): Promise<void> {
  const wire = new Wire(combination);
  if (service.isStarted()) await service.halt();
  const backend = await Backend.start(project, combination["observability"] ?? "");
  const model = await ModelServer.start(script);
  try {
    await service.start({ ...model.env, ...wire.env(backend.url) });
    expectSame("the page's status", (await fetch(service.url)).status, 200);
    const answer = await wire.ask(service.url, QUESTION);
    if (!answer.includes("ten years")) throw new Error(`the answer lacks "ten years":\n${answer}`);
    await service.halt(); // which sends what has not been sent yet
    wire.check(await backend.seen(), QUESTION);
  } finally {
    await backend.stop();
    await model.stop();
  }
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
