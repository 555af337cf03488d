import type { Plan } from "./plan.ts";

/** What programs are told of a plan. */
export function factsOf({ name, version, tools, dependencies, devDependencies, environment }: Plan) {
  return {
    name,
    version,
    tools: Object.fromEntries(tools.map(({ category, id }) => [category, id])),
    dependencies,
    devDependencies,
    environment: environment.flatMap(({ variables }) => variables),
  };
}
