import { existsSync, readdirSync } from "node:fs";
import { copyFile, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, describe, expect, inject, test } from "vitest";
import { makePlan } from "../../src/plan.ts";
import { readTemplates } from "../../src/read-templates.ts";
import { render } from "../../src/render.ts";
import { makeFolder } from "./service.ts";
import { uvx } from "./uvx.ts";

// What is said of the files that Docker and GitHub read, by those who know these formats. (What the Dockerfile does is
// tried in user.test.ts.)

const TEMPLATES = join(import.meta.dirname, "../../templates");
const { catalogue, files } = await readTemplates(TEMPLATES);
const project = inject("project");
const OWN = join(import.meta.dirname, "../../.github/workflows");
const workflows = [".github/workflows/ci.yml", ...readdirSync(OWN).map((name) => join(OWN, name))];

test.each([
  ["hadolint", ["Dockerfile"]],
  ["actionlint", workflows],
  ["zizmor", ["--offline", "--persona=pedantic", ...workflows]],
] as const)("%s has nothing to say", async (program, args) => {
  const { exitCode, all } = await uvx(program, [...args], project);
  expect(exitCode, all).toBe(0);
});

describe("compose.yaml", () => {
  let folder: string;

  beforeAll(async () => {
    folder = join(await makeFolder("compose-"), "my-app");
    await mkdir(folder);
    await copyFile(join(project, "compose.yaml"), join(folder, "compose.yaml"));
  });

  test("asks for the key that serving others needs", async () => {
    const { exitCode, all } = await uvx("docker-compose", ["config"], folder);
    expect(exitCode).not.toBe(0);
    expect(all).toContain("set API_KEY in .env");
  });

  test.each(combinations())("of %s is what Compose makes of the files that it comes from", async (_, tools) => {
    const plan = makePlan({ name: "my-app", tools }, catalogue, "1.0.0");
    const made = join(await makeFolder("compose-"), "my-app");
    await mkdir(made);
    await writeFile(join(made, "compose.yaml"), render(plan, files).get("compose.yaml") ?? "");
    const parts = plan.owners.map((owner) => join(TEMPLATES, owner, "compose.yaml")).filter(existsSync);
    const both = parts.flatMap((path) => ["-f", path]);
    const env = { API_KEY: "key" };
    const merged = await uvx("docker-compose", ["--project-directory", ".", ...both, "config"], made, env);
    const { exitCode, all } = await uvx("docker-compose", ["config"], made, env);
    expect(exitCode, all).toBe(0);
    expect(all).toBe(merged.all);
  });

  test("takes settings from .env, but not where the containers would not meet", async () => {
    const own =
      "API_KEY=key\nLLM_MODEL=gpt-5-mini\nHOST=127.0.0.1\nPORT=8123\nDATABASE_URL=postgresql://localhost/app\n";
    await writeFile(join(folder, ".env"), own);
    const { stdout } = await uvx("docker-compose", ["config", "--format", "json"], folder);
    const { services } = JSON.parse(stdout);
    const shared = {
      LLM_MODEL: "gpt-5-mini",
      DATABASE_URL: "postgresql://postgres:postgres@database:5432/postgres",
    };
    expect(services.app.environment).toMatchObject({ ...shared, API_KEY: "key", HOST: "0.0.0.0", PORT: "8000" });
    expect(services.app.ports).toMatchObject([{ published: "8123", target: 8000 }]);
    expect(services.worker.environment).toMatchObject(shared);
    expect(services.database.ports).toBeUndefined();
  });
});

/** Of the tools that have services. */
function combinations(): [title: string, tools: Record<string, string>][] {
  const defaults = Object.fromEntries(catalogue.categories.map(({ id, default: tool }) => [id, tool]));
  return catalogue.categories.reduce<[string, Record<string, string>][]>(
    (all, { id, tools }) => {
      const serving = tools.filter((tool) =>
        [...Object.keys(files)].some((owner) => owner.startsWith(`${id}/${tool.id}`) && hasServices(owner)),
      );
      if (serving.length === 0) return all;
      return all.flatMap(([title, chosen]) =>
        tools.map((tool): [string, Record<string, string>] => [
          `${title} ${tool.id}`.trim(),
          { ...chosen, [id]: tool.id },
        ]),
      );
    },
    [["", defaults]],
  );
}

function hasServices(owner: string): boolean {
  return Object.keys(files[owner]?.compose ?? {}).length > 0;
}
