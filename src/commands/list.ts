import type { Catalogue } from "../catalogue.ts";
import { type Output, wrap } from "../output.ts";

export function list(catalogue: Catalogue, version: string, output: Output): void {
  const { bold, dim } = output.colors;
  output.result({ version, categories: catalogue.categories.map(summarize) });
  if (output.json) return;
  for (const category of catalogue.categories) {
    output.say(`${bold(category.id)}  ${wrap(category.about, output.columns, "  ")}\n`);
    for (const tool of category.tools) {
      const mark = tool.id === category.default ? dim(" (default)") : "";
      output.say(`  ${bold(tool.id)}${mark}  ${tool.title}, ${tool.homepage}`);
      output.say(`    Choose it  ${wrap(tool.choose, output.columns, INDENT)}`);
      output.say(`    Not        ${wrap(tool.avoid, output.columns, INDENT)}`);
      if (tool.emulated !== "") output.say(`    Emulated   ${wrap(tool.emulated, output.columns, INDENT)}`);
      output.say();
    }
  }
}

const INDENT = " ".repeat(15);

export function summarize({ tools, order: _, ...category }: Catalogue["categories"][number]) {
  return {
    ...category,
    tools: tools.map(({ id, title, choose, avoid, homepage, emulated }) => ({
      ...{ id, title, choose, avoid, homepage },
      ...(emulated === "" ? {} : { emulated }),
    })),
  };
}
