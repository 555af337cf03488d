import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { expect, test } from "vitest";
import { BASE, ownerOf } from "../../src/catalogue.ts";
import { readTemplates } from "../../src/read-templates.ts";
import { normalizeName } from "../../src/tool.ts";

const ROOT = join(import.meta.dirname, "../..");

const sources = readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" })
  .map((path) => join("src", path))
  .filter((path) => path.endsWith(".ts"));

function read(path: string): string {
  return readFileSync(join(ROOT, path), "utf8");
}

test("src/ and the build name no tool", async () => {
  const { catalogue } = await readTemplates(join(ROOT, "templates"));
  const ids = catalogue.categories.flatMap(({ tools }) => tools.map(({ id }) => id));
  expect(ids.length).toBeGreaterThan(3);
  const named = new RegExp(`\\b(?:${ids.join("|")})\\b`, "i");
  expect([...sources, "build.js", "bin/create-ai-stack.js"].filter((path) => named.test(read(path)))).toEqual([]);
});

test("the base and every tool pin each package that they require to the version that they require", async () => {
  const { catalogue, files } = await readTemplates(join(ROOT, "templates"));
  const tools = catalogue.categories.flatMap((category) => category.tools);
  for (const [owner, { dependencies, devDependencies }] of [
    [BASE, catalogue.base] as const,
    ...tools.map((tool) => [ownerOf(tool), tool] as const),
  ]) {
    const pins = files[owner]?.pins ?? {};
    for (const { requirement } of [...dependencies, ...devDependencies]) {
      const [, name = "", version] = requirement.match(/^([\w.-]+)(?:\[[^\]]*\])?>=([^,;\s]+)/) ?? [];
      // Or, where a tool holds others back, in projects with that one.
      const lower = tools.map((tool) => files[ownerOf(tool)]?.pins ?? {});
      const tested = [pins, ...(pins[normalizeName(name)] ? lower : [])].flatMap(
        (all) => all[normalizeName(name)] ?? [],
      );
      expect(
        tested.map((pin) => pin.split(/==|\s/)[1]),
        `${owner}: ${requirement}`,
      ).toContain(version);
    }
  }
});

test("no committed file has the address of a package registry, a machine's path or a carriage return", () => {
  const hosts = ["registry.npmjs", "pythonhosted", "pypi"].map((host) => `${host}\\.org`);
  const homes = ["root", "work", "home/[a-z]+", "Users/[a-z]+"].map((home) => `(?<![\\w.})])/${home}/`);
  const forbidden = new RegExp([...hosts, ...homes, "\\r"].join("|"));
  const files = execFileSync("git", ["ls-files", "-z"], { cwd: ROOT, encoding: "utf8" }).split("\0");
  const others = /^$|^test\/stack\/documents\/|^docs\/images\//;
  const texts = files.filter((path) => !others.test(path));
  const existing = texts.filter((path) => statSync(join(ROOT, path), { throwIfNoEntry: false })?.isFile());
  expect(existing.length).toBeGreaterThan(30);
  expect(existing.filter((path) => forbidden.test(read(path)))).toEqual([]);
});

test("each image of the README and the docs exists, has a text in its place, and is below 2.5 MB", () => {
  const pages = ["README.md", "CONTRIBUTING.md", ...readdirSync(join(ROOT, "docs")).map((name) => `docs/${name}`)];
  const images = pages
    .filter((path) => path.endsWith(".md"))
    .flatMap((page) =>
      [...read(page).matchAll(/!\[([^\]]*)\]\((.+?)\)|<img src="(.+?)".*? alt="(.*?)">/g)].map(
        ([, before = "", path, source = "", after = ""]) => ({
          file: join(ROOT, dirname(page), path ?? source),
          text: before || after,
        }),
      ),
    );
  expect(images.length).toBeGreaterThan(2);
  for (const { file, text } of images) {
    expect(statSync(file).size, file).toBeLessThan(2_500_000);
    expect(text, file).toMatch(/\w/);
  }
});

const WORKFLOWS = [
  "templates/base/python/.github/workflows/ci.yml",
  ...readdirSync(join(ROOT, ".github/workflows")).map((name) => `.github/workflows/${name}`),
];

test.each(WORKFLOWS)("%s pins actions by commit, and docs/packaging.md says where each commit was read", (path) => {
  const docs = read("docs/packaging.md");
  const actions = [...read(path).matchAll(/uses: (\S+)@(\S+)( # (v[\d.]+))?$/gm)];
  expect(actions.length).toBeGreaterThan(1);
  for (const [, name, commit, , version] of actions) {
    expect(docs).toMatch(
      new RegExp(`^\\| \`${name}\` ${version} \\| \`${commit}\` \\| \\[.+\\]\\(https://.+\\) \\|$`, "m"),
    );
  }
});

test("the image and the workflows use one uv and one Python", () => {
  const dockerfile = read("templates/base/python/Dockerfile");
  const workflows = WORKFLOWS.map(read).join("\n");
  const pythons = [...dockerfile.matchAll(/^FROM python:(3\.\d+)-slim/gm)].map(([, version]) => version);
  expect(pythons).toHaveLength(2);
  const inWorkflows = [...workflows.matchAll(/python-version: "(.+)"/g)].map(([, version]) => version);
  expect(new Set([...pythons, ...inWorkflows]).size).toBe(1);
  const [, uv] = dockerfile.match(/astral-sh\/uv:(\S+)/) ?? [];
  expect(new Set([...workflows.matchAll(/ version: "(.+)"/g)].map(([, version]) => version))).toEqual(new Set([uv]));
});
