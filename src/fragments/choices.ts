import type { Plan } from "../plan.ts";

/** `ai-stack.json`: what was chosen, and which version rendered it. */
export function renderChoices(plan: Plan): string {
  const choices = {
    generator: "create-ai-stack",
    version: plan.version,
    name: plan.name,
    tools: Object.fromEntries(plan.tools.map((tool) => [tool.category, tool.id])),
  };
  return `${JSON.stringify(choices, null, 2)}\n`;
}
