import type { Plan } from "../plan.ts";

/** `.env.example`: every variable, commented out, under the tool that reads it. */
export function renderEnvironment(plan: Plan): string {
  const sections = plan.environment.map(({ title, variables }) =>
    [
      `# --- ${title} ---`,
      ...variables.map(({ name, about, example, secret }) =>
        [
          ...about.split("\n").map((line) => `# ${line}`),
          ...(secret ? ["# Keep it secret."] : []),
          `# ${name}=${example}`,
        ].join("\n"),
      ),
    ].join("\n\n"),
  );
  const head = "# Copy this file to .env and uncomment what you need: every variable has a default.";
  return `${[head, ...sections].join("\n\n")}\n`;
}
