import type { Plan } from "./plan.ts";

const RUNNERS = { npx: "npx", pnpm: "pnpm dlx", bun: "bunx", yarn: "yarn dlx" };

export type Runner = keyof typeof RUNNERS;

/** The package manager that started this process, as it names itself. */
export function runnerOf(userAgent: string | undefined): Runner {
  const name = userAgent?.split("/")[0];
  // Yarn 1 has no dlx.
  if (name === "yarn" && userAgent?.startsWith("yarn/1.") === true) return "npx";
  return name !== undefined && Object.hasOwn(RUNNERS, name) ? (name as Runner) : "npx";
}

/** The one command that makes this exact project again. */
export function recreateCommand(plan: Plan, runner: Runner, directory = plan.name, flags: string[] = []): string {
  const choices = plan.tools.flatMap((tool) => [`--${tool.category}`, tool.id]);
  return [RUNNERS[runner], `create-ai-stack@${plan.version}`, directory, ...choices, ...flags].join(" ");
}
