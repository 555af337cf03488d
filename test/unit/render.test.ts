import { parse } from "node:path";
import { expect, test } from "vitest";
import { render } from "../../src/render.ts";
import { readFixture } from "../fixtures.ts";

test("the same plan renders the same bytes, in the same order", async () => {
  const [one, two] = [await readFixture(), await readFixture()];
  expect([...render(one.plan(), one.files)]).toEqual([...render(two.plan(), two.files)]);
});

test("files are copied byte for byte, templates are rendered, merged files are added", async () => {
  const { plan, files } = await readFixture();
  const project = render(plan(), files);
  expect([...project.keys()]).toEqual([
    ...[".env.example", ".gitignore", "README.md", "ai-stack.json", "app/__init__.py", "app/__main__.py"],
    ...["app/store.py", "app/view.py", "compose.yaml", "constraints.txt", "pyproject.toml"],
  ]);
  expect(project.get("app/__main__.py")).toContain("{{ not a template }}");
  expect(project.get("README.md")).toContain("## Shelf\nPut it on the shelf.\n\n## Window\n");
  expect([...project.keys()].filter((path) => parse(path).ext === ".hbs")).toEqual([]);
});

test("pyproject.toml has the name, the requirements, and beside a cap its reason", async () => {
  const { plan, files } = await readFixture();
  const pyproject = render(plan(), files).get("pyproject.toml");
  expect(pyproject).toContain('name = "my-app"');
  expect(pyproject).toContain('  "attrs>=25",\n  "numpy>=2,<3",  # the next major changes the array layout\n');
  expect(pyproject).toContain('my-app = "app.__main__:main"');
});

test("requires-python is capped where a tool says so, with its reason", async () => {
  const { plan, files, catalogue } = await readFixture();
  expect(render(plan(), files).get("pyproject.toml")).toContain('requires-python = ">=3.11"\n');
  for (const { tools } of catalogue.categories) {
    for (const tool of tools.filter(({ id }) => id === "window")) tool.python = { below: "3.14", why: "no glass" };
  }
  expect(render(plan(), files).get("pyproject.toml")).toContain('requires-python = ">=3.11,<3.14"  # no glass\n');
});

test(".env.example has every variable commented out, with its sentence", async () => {
  const { plan, files } = await readFixture();
  const example = render(plan(), files).get(".env.example") ?? "";
  expect(example).toContain("# --- Shelf ---\n\n# Where the shelf is.\n# SHELF_URL=shelf://localhost\n");
  expect(example).toContain("# Keep it secret.\n# APP_KEY=\n");
  expect(example.split("\n").every((line) => line === "" || line.startsWith("#"))).toBe(true);
});

test("ai-stack.json has the version, the name and the choices", async () => {
  const { plan, files } = await readFixture();
  expect(JSON.parse(render(plan(), files).get("ai-stack.json") ?? "")).toEqual({
    generator: "create-ai-stack",
    version: "1.2.3",
    name: "my-app",
    tools: { store: "shelf", view: "window" },
  });
});

test("constraints.txt has the pins of the base and of the chosen tools", async () => {
  const { plan, files } = await readFixture();
  expect(render(plan(), files).get("constraints.txt")).toBe(
    "# The versions that were tested together.\nattrs==25.4.0\npydantic==2.12.4\n",
  );
});

test("compose.yaml has the services of all, and what tools add to those of the base", async () => {
  const { plan, files } = await readFixture();
  expect(render(plan(), files).get("compose.yaml")).toBe(`services:
  app:
    build: .
    environment:
      HOST: 0.0.0.0
      SHELF_URL: shelf://shelf # not localhost

  shelf:
    image: shelf:1
    volumes: ["shelf:/data"]
volumes:
  shelf:
`);
});

test.each([
  ["services.shelf.image", "store/shelf", { services: { shelf: { image: "shelf:2" } } }],
  ["services.app.environment.HOST", "base", { services: { app: { environment: { HOST: "0.0.0.0" } } } }],
  ["services.app.environment", "base", { services: { app: { environment: "[HOST=0.0.0.0]" } } }],
  ["services.app.build", "base", { services: { app: { build: { context: "." } } } }],
])("two owners of %s in compose.yaml are named", async (key, owner, compose) => {
  const { plan, files } = await readFixture();
  owned(files, "view/window").compose = compose;
  expect(() => render(plan(), files)).toThrow(`${owner} and view/window both bring the key ${key} of compose.yaml.`);
});

test("a package that a tool holds back is pinned to the lower version", async () => {
  const { plan, files } = await readFixture();
  owned(files, "view/window").pins = { attrs: ["attrs==25.10.0"], pydantic: ["pydantic==2.9.2"] };
  const constraints = render(plan(), files).get("constraints.txt");
  expect(constraints?.split("\n").slice(1, -1)).toEqual(["attrs==25.4.0", "pydantic==2.9.2"]);
});

test("the files of a fallback take the place of its tool's, and its section follows", async () => {
  const { plan, files } = await readFixture();
  files["view/window/without-sql"] = {
    ...{ section: "Nothing to see.\n", pins: {}, compose: {}, templates: {} },
    files: { "app/view.py": "curtain\n" },
  };
  const without = { ...plan(), owners: [...plan().owners, "view/window/without-sql"] };
  const project = render(without, files);
  expect(project.get("app/view.py")).toBe("curtain\n");
  expect(project.get("README.md")).toMatch(/## Window\n[^#]+\n\nNothing to see\.\n/);
});

test("one owner may pin a package twice, by environment marker", async () => {
  const { plan, files } = await readFixture();
  const pins = ["rich==14.0 ; python_version < '3.12'", "rich==15.0 ; python_version >= '3.12'"];
  owned(files, "view/window").pins = { rich: pins };
  expect(render(plan(), files).get("constraints.txt")).toContain(`${pins.join("\n")}\n`);
});

test.each(["app/store.py", "app/STORE.py"])("two owners of %s are named", async (path) => {
  const { plan, files } = await readFixture();
  owned(files, "view/window").files[path] = "";
  expect(() => render(plan(), files)).toThrow(`store/shelf and view/window both bring the file ${path}.`);
});

test("a template file may not take the place of a merged one", async () => {
  const { plan, files } = await readFixture();
  owned(files, "base").files[".env.example"] = "";
  expect(() => render(plan(), files)).toThrow("base and the generator both bring the file .env.example.");
});

test("a tool without templates is a failure", async () => {
  const { plan, files } = await readFixture();
  delete files["view/window"];
  expect(() => render(plan(), files)).toThrow("no templates of view/window");
});

function owned(files: Awaited<ReturnType<typeof readFixture>>["files"], owner: string) {
  const found = files[owner];
  if (found === undefined) throw new Error(`no ${owner} in the fixture`);
  return found;
}
