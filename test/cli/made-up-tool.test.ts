import { appendFile, cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { readTemplates } from "../../src/read-templates.ts";
import { converse } from "./converse.ts";
import { buildCli, readTree, run, tempFolder } from "./run.ts";

// Adding a tool touches its own folder and nothing else.
const TEMPLATES = join(import.meta.dirname, "../../templates");
const CATEGORY = "observability";
const TOOL = "spyglass";

let cli: string;
let templates: string;

beforeAll(async () => {
  templates = await tempTemplates();
  cli = await buildCli(templates);
});

afterAll(async () => {
  await rm(cli, { recursive: true });
  await rm(templates, { recursive: true });
});

/** The real templates, and beside them a copy of one tool under another name. */
async function tempTemplates(): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), "templates-"));
  await cp(TEMPLATES, root, { recursive: true });
  const { catalogue } = await readTemplates(root);
  const nearest = catalogue.categories.find(({ id }) => id === CATEGORY)?.default ?? "";
  const tool = join(root, CATEGORY, TOOL);
  await cp(join(root, CATEGORY, nearest), tool, { recursive: true });
  const manifest = await readFile(join(tool, "tool.yaml"), "utf8");
  await writeFile(
    join(tool, "tool.yaml"),
    manifest.replace(/^title: .*$/m, "title: Spyglass").replace(/^choose: .*$/m, "choose: You look far ahead."),
  );
  await writeFile(join(tool, "README.md"), "Look through the thin end.\n");
  await appendFile(join(tool, "python/app/observability.py"), "\n# Seen through a spyglass.\n");
  return root;
}

test("it is listed, with its reason", async () => {
  const { stdout } = await run(["list", "--json"], { cwd: await tempFolder(), cli });
  const { categories } = JSON.parse(stdout);
  const tools = categories.find(({ id }: { id: string }) => id === CATEGORY).tools;
  expect(tools).toContainEqual(expect.objectContaining({ id: TOOL, title: "Spyglass", choose: "You look far ahead." }));
});

test("it is in the help, as a value of its category's flag", async () => {
  const { stdout } = await run(["--help"], { cwd: await tempFolder(), cli });
  expect(stdout).toContain(`"${TOOL}"`);
});

test("it is offered where a tool is unknown", async () => {
  const { exitCode, stderr } = await run([`--${CATEGORY}`, "nope"], { cwd: await tempFolder(), cli });
  expect(exitCode).toBe(2);
  expect(stderr).toContain(TOOL);
});

test("it can be picked at the prompt", async () => {
  const cwd = await tempFolder();
  const { catalogue } = await readTemplates(templates);
  const category = catalogue.categories.find(({ id }) => id === CATEGORY);
  const below = category?.tools.findIndex(({ id }) => id === TOOL) ?? 0;
  const others = catalogue.categories
    .filter(({ id }) => id !== CATEGORY)
    .flatMap(({ id, default: tool }) => [`--${id}`, tool]);
  const { exitCode, screen } = await converse([[category?.question ?? "", `${"\u001b[B".repeat(below)}\r`]], {
    cwd,
    cli,
    args: ["team-app", ...others, "--no-install", "--no-git"],
  });
  expect(exitCode).toBe(0);
  expect(screen).toContain("You look far ahead.");
  expect(JSON.parse((await readTree(cwd))["team-app/ai-stack.json"] ?? "").tools[CATEGORY]).toBe(TOOL);
});

test("its files, its section and its choice are in the project that its flag makes", async () => {
  const cwd = await tempFolder();
  const { exitCode } = await run(["team-app", "--yes", `--${CATEGORY}`, TOOL, "--no-install", "--no-git"], {
    cwd,
    cli,
  });
  expect(exitCode).toBe(0);
  const files = await readTree(join(cwd, "team-app"));
  expect(files["app/observability.py"]).toContain("# Seen through a spyglass.");
  expect(files["README.md"]).toContain("Look through the thin end.");
  expect(JSON.parse(files["ai-stack.json"] ?? "").tools[CATEGORY]).toBe(TOOL);
});
