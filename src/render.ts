import { ownerOf, type TemplateFiles } from "./catalogue.ts";
import { renderChoices } from "./fragments/choices.ts";
import { mergeCompose } from "./fragments/compose.ts";
import { mergeConstraints } from "./fragments/constraints.ts";
import { renderEnvironment } from "./fragments/environment.ts";
import { conflict, type Plan } from "./plan.ts";
import { recreateCommand } from "./recreate.ts";
import { renderTemplate, type TemplateData } from "./template.ts";
import type { Requirement, Tool } from "./tool.ts";

/** Path in the project, with `/` → content. */
export type FileMap = Map<string, string>;

/** Written last, so that a folder without it is no project. */
export const CHOICES_FILE = "ai-stack.json";

const GENERATOR = "the generator";

export function render(plan: Plan, templates: TemplateFiles): FileMap {
  const files: FileMap = new Map();
  const owners = new Map<string, string>();
  const add = (owner: string, path: string, content: string) => {
    // Two names that differ in case alone are one file on macOS and Windows.
    const key = path.toLowerCase();
    const first = owners.get(key);
    if (first !== undefined && !owner.startsWith(`${first}/`)) throw conflict(`file ${path}`, first, owner);
    owners.set(key, owner);
    files.set(path, content);
  };

  const data = templateData(plan, templates);
  for (const owner of plan.owners) {
    const owned = filesOf(templates, owner);
    for (const [path, content] of Object.entries(owned.files)) add(owner, path, content);
    for (const [path, template] of Object.entries(owned.templates)) add(owner, path, renderTemplate(template, data));
  }
  add(GENERATOR, ".env.example", renderEnvironment(plan));
  add(GENERATOR, "compose.yaml", mergeCompose(plan, templates));
  add(GENERATOR, "constraints.txt", mergeConstraints(plan, templates));
  add(GENERATOR, CHOICES_FILE, renderChoices(plan));
  return new Map([...files].sort(([a], [b]) => (a < b ? -1 : 1)));
}

function filesOf(templates: TemplateFiles, owner: string) {
  const owned = templates[owner];
  if (owned === undefined) throw new Error(`no templates of ${owner}`);
  return owned;
}

function templateData(plan: Plan, templates: TemplateFiles): TemplateData {
  return {
    name: plan.name,
    recreate: recreateCommand(plan, "npx"),
    tools: plan.tools.map((tool) => ({
      category: tool.category,
      id: tool.id,
      title: tool.title,
      homepage: tool.homepage,
      choose: tool.choose,
      section: sectionOf(tool, plan, templates),
    })),
    python: plan.python.requirement,
    python_comment: asTemplateData(plan.python).comment,
    dependencies: plan.dependencies.map(asTemplateData),
    dev_dependencies: plan.devDependencies.map(asTemplateData),
    ports: plan.ports.map((port) => ({ port: String(port) })),
    next_steps: plan.nextSteps.map((step) => ({ step })),
  };
}

/** That of the tool, and those of its fallbacks that are taken. */
function sectionOf(tool: Tool, plan: Plan, templates: TemplateFiles): string {
  const owner = ownerOf(tool);
  // A fallback is a folder of its tool's.
  const owners = plan.owners.filter((name) => name === owner || name.startsWith(`${owner}/`));
  return owners.map((name) => filesOf(templates, name).section.trim()).join("\n\n");
}

function asTemplateData({ requirement, why }: Requirement) {
  return { requirement, comment: why === undefined ? "" : `  # ${why}` };
}
