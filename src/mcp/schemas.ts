import { z } from "zod/v4";
import { catalogue } from "../index.ts";
import { PHASES } from "../verify/verify.ts";

// What goes in and out of the tools, as clients read it.

const requirement = z.object({
  requirement: z.string().describe("As PEP 508 writes it"),
  why: z.string().optional().describe("Why it is capped"),
});

const stack = {
  name: z.string().describe("The project's name"),
  version: z.string().describe("Of create-ai-stack"),
  tools: z.record(z.string(), z.string()).describe("Category → tool"),
  files: z.array(z.string()).describe("Paths in the project"),
  dependencies: z.array(requirement),
  devDependencies: z.array(requirement),
  environment: z
    .array(z.object({ name: z.string(), about: z.string(), example: z.string(), secret: z.boolean() }))
    .describe("The variables that the project reads"),
  nextSteps: z.array(z.string()).describe("What to type next"),
  recreate: z.string().describe("The command that makes the same project"),
};

const tools = z
  .strictObject(
    Object.fromEntries(
      catalogue.map(({ id, question, tools, default: fallback }) => {
        const choices = tools.map((tool) => `${tool.id}: ${tool.choose}`).join(" ");
        const ids = z.enum(tools.map((tool) => tool.id)).default(fallback);
        return [id, ids.describe(`${question} ${choices}`)];
      }),
    ),
  )
  .prefault({})
  .describe("Category → tool. A category that is left out gets its default.");

export const listInput = z.strictObject({});

export const listOutput = z.object({
  version: z.string().describe("Of create-ai-stack"),
  categories: z.array(
    z.object({
      id: z.string(),
      question: z.string(),
      about: z.string(),
      default: z.string().describe("The id of the tool that is taken where none is chosen"),
      tools: z.array(
        z.object({
          id: z.string(),
          title: z.string(),
          choose: z.string().describe("When to choose it"),
          avoid: z.string().describe("When not"),
          homepage: z.string(),
          emulated: z.string().optional().describe("What stands in for it until a server of it is named"),
        }),
      ),
    }),
  ),
});

export const planInput = z.strictObject({ name: z.string().default("my-app").describe("The project's name"), tools });

export const planOutput = z.object(stack);

export const createInput = z.strictObject({
  directory: z
    .string()
    .describe(
      "Where the project goes: new or empty, and below a directory that the client allows. Absolute, or relative to the first of these. Its last part is the project's name.",
    ),
  tools,
  install: z.boolean().default(true).describe("Install the dependencies, which takes a minute or so"),
  git: z.boolean().default(true).describe("Make a repository with a first commit"),
});

export const createOutput = z.object({
  ...stack,
  directory: z.string().describe("Absolute"),
  notes: z.array(z.string()).describe("What went another way than usual"),
});

export const verifyInput = z.strictObject({
  directory: z
    .string()
    .describe(
      "The project, in or below a directory that the client allows. Absolute, or relative to the first of these.",
    ),
  phases: z.array(z.enum(PHASES)).min(1).optional().describe("These alone, instead of all"),
});

export const verifyOutput = z.object({
  ...{ directory: z.string().describe("Absolute"), name: stack.name, version: stack.version, tools: stack.tools },
  passed: z.boolean(),
  phases: z.array(
    z.object({
      phase: z.string(),
      result: z.enum(["passed", "failed", "left out"]).describe("Left out: what had to come before it failed"),
      seconds: z.number(),
      output: z.string().describe("Why it failed: what was expected, and what was printed"),
    }),
  ),
});
