import type { TemplateData } from "./template.ts";
import type { Category, Part, Tool } from "./tool.ts";

/** What can be chosen: small, loaded by every command. */
export interface Catalogue {
  base: Part;
  categories: Category[];
}

/** What an owner (the base, or a tool) brings along besides its manifest. */
export interface OwnedFiles<Template> {
  /** The owner's section of the README; the base has none. */
  section: string;
  constraints: string;
  /** Path in the project → content. */
  files: Record<string, string>;
  /** Path in the project → what renders its content. */
  templates: Record<string, Template>;
}

/** Owner → its files, an owner being `base` or `<category>/<tool>`. Large, loaded only to create a project. */
export type TemplateFiles<Template = (data: TemplateData) => string> = Record<string, OwnedFiles<Template>>;

export const BASE = "base";

export function ownerOf(tool: Tool): string {
  return `${tool.category}/${tool.id}`;
}

/** The catalogue that the build compiled in. */
export async function loadCatalogue(): Promise<Catalogue> {
  return (await import("compiled:catalogue")).default;
}

export async function loadTemplateFiles(): Promise<TemplateFiles> {
  return (await import("compiled:files")).default;
}
