import { join } from "node:path";
import { readTemplates } from "../../src/read-templates.ts";
import { type Dependency, isNewerMajor, isUnexplained, table } from "./dependency.ts";
import { dependenciesOfGenerator } from "./node.ts";
import { dependenciesOfProjects, dependenciesOfTools } from "./python.ts";
import { RegistryError } from "./registry.ts";

/** Prints the tables and returns the exit code: 1 for a newer major without an explanation, 2 without an answer. */
export async function run(root: string): Promise<number> {
  try {
    const { catalogue, files } = await readTemplates(join(root, "templates"));
    const sections: [title: string, dependencies: Dependency[]][] = [
      ["Projects", await dependenciesOfProjects(catalogue, files)],
      ["Generator, from npm", await dependenciesOfGenerator(root)],
      ["Generator, from PyPI", await dependenciesOfTools(root)],
    ];
    for (const [title, dependencies] of sections) console.log(`${title}\n\n${table(dependencies.filter(isShown))}\n`);
    const unexplained = sections.flatMap(([, dependencies]) => dependencies).filter(isUnexplained);
    console.log(
      unexplained.length === 0
        ? "Each newer major is used or explained."
        : `Neither used nor explained: ${unexplained.map(({ name, newest }) => `${name} ${newest}`).join(", ")}.`,
    );
    return unexplained.length === 0 ? 0 : 1;
  } catch (error) {
    if (!(error instanceof RegistryError)) throw error;
    console.error(error.message);
    return 2;
  }
}

/** What others need is told where a newer major of it exists. */
function isShown(dependency: Dependency): boolean {
  return dependency.direct || isNewerMajor(dependency);
}
