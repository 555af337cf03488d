import { join } from "node:path";
import type { Catalogue, TemplateFiles } from "../src/catalogue.ts";
import { makePlan, type Plan } from "../src/plan.ts";
import { readTemplates } from "../src/read-templates.ts";

/** A small made-up catalogue: two categories, three tools. */
export const FIXTURE = join(import.meta.dirname, "fixtures/templates");

export const ANSWERS = { name: "my-app", tools: { store: "shelf", view: "window" } };

interface Fixture {
  catalogue: Catalogue;
  files: TemplateFiles;
  plan: () => Plan;
}

/** A copy of its own for each test, to change as it likes. */
export async function readFixture(): Promise<Fixture> {
  const { catalogue, files } = await readTemplates(FIXTURE);
  return { catalogue, files, plan: () => makePlan(ANSWERS, catalogue, "1.2.3") };
}
