/** All that a template can name: texts, and lists of records of texts. */
export type TemplateData = Record<keyof typeof NAMES, string | Record<string, string>[]>;

/** A compiled template: text, values to put in, and loops over a list. */
export type Template = (string | { value: string } | { each: string; body: Template })[];

/** Every name a template may use; a list has the names of its items. */
export const NAMES = {
  name: [],
  recreate: [],
  python: [],
  python_comment: [],
  tools: ["category", "id", "title", "homepage", "choose", "section"],
  dependencies: ["requirement", "comment"],
  dev_dependencies: ["requirement", "comment"],
  ports: ["port"],
  next_steps: ["step"],
} as const satisfies Record<string, readonly string[]>;

export function renderTemplate(template: Template, data: Record<string, string | Record<string, string>[]>): string {
  const parts = template.map((part) => {
    if (typeof part === "string") return part;
    const name = "value" in part ? part.value : part.each;
    const value = data[name];
    if (value === undefined) throw new Error(`no ${name} for a template`);
    if ("value" in part || typeof value === "string") return value;
    return value.map((item) => renderTemplate(part.body, item)).join("");
  });
  return parts.join("");
}
