import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { type Dependency, isNewerMajor, isUnexplained, table, whereOf } from "../../scripts/freshness/dependency.ts";
import { compare, type Lock } from "../../scripts/freshness/node.ts";
import { dependenciesOfProjects, needsIn } from "../../scripts/freshness/python.ts";
import { causeIn, RegistryError } from "../../scripts/freshness/registry.ts";
import type { Resolve } from "../../scripts/freshness/uv.ts";
import { readPins } from "../../src/fragments/constraints.ts";
import { readTemplates } from "../../src/read-templates.ts";
import { readFixture } from "../fixtures.ts";

const ROOT = join(import.meta.dirname, "../..");

test.each([
  ["1.9", "2.0", true],
  ["1.9", "1.10", false],
  ["9.0", "10.0", true],
  ["0.9", "0.10", false],
  ["2.0", "1.9", false],
  ["2.9.0.post0", "4.0.0", true],
  ["2.0b1", "2.0", false],
  ["2026.9.0", "1!1.0", true],
  ["1!2.0", "1!2.1", false],
])("from %s to %s: a newer major is %s", (used, newest, expected) => {
  expect(isNewerMajor({ used, newest })).toBe(expected);
});

test("a newer major needs a reason that is one", () => {
  const dependency = { name: "a", used: "1.0", newest: "2.0", direct: true, where: "all" };
  expect(isUnexplained(dependency)).toBe(true);
  expect(isUnexplained({ ...dependency, hold: { text: "uv, for no reason that it names", explained: false } })).toBe(
    true,
  );
  expect(isUnexplained({ ...dependency, hold: { text: "b 1.0 needs a<2", explained: true } })).toBe(false);
  expect(isUnexplained({ ...dependency, newest: "1.1" })).toBe(false);
});

test("the table tells what is newest, what is held back, and what lacks a reason", () => {
  const row = { used: "1.0", direct: true, where: "all" };
  const rows = [
    { ...row, name: "new", newest: "1.0" },
    { ...row, name: "held", newest: "2.0", hold: { text: "new 1.0 needs held<2", explained: true } },
    { ...row, name: "minor", newest: "1.1" },
    { ...row, name: "forgotten", newest: "2.0" },
  ];
  expect(table(rows)).toBe(
    [
      "package    in use  newest  where  held back by",
      "new        1.0     =       all",
      "held       1.0     2.0     all    new 1.0 needs held<2",
      "minor      1.0     1.1     all    nothing",
      "forgotten  1.0     2.0     all    nothing (not explained)",
    ].join("\n"),
  );
});

test("combinations are told by what they have in common", () => {
  const all = ["x", "y"].flatMap((one) => ["p", "q"].map((two) => ({ one, two })));
  const those = (...names: string[]) => all.filter(({ one, two }) => names.includes(one + two));
  expect(whereOf(all, all)).toBe("all");
  expect(whereOf(those("xp", "xq"), all)).toBe("x");
  expect(whereOf(those("xp", "xq", "yp"), all)).toBe("x, p");
  expect(whereOf(those("xp", "yq"), all)).toBe("x+p, y+q");
});

describe("projects", () => {
  /** An index with one release of each package, and what uv says where all shall be the newest. */
  function index(newest: Record<string, string>, fit: Record<string, string>, message: string): Resolve {
    return async (requirements, options) => {
      if (requirements.some((line) => /==/.test(line))) throw new RegistryError("no answer", message);
      const lines = requirements.map((line) => {
        const [name = ""] = line.match(/^[\w-]+/) ?? [];
        return `${name}==${(options?.includes("--no-deps") ? newest : fit)[name]}`;
      });
      return readPins([...new Set(lines)].join("\n"), "index");
    };
  }

  /** The fixture, with all that it requires pinned, and a package that one of these needs. */
  async function ask(...[newest, fit, message]: Parameters<typeof index>) {
    const { catalogue, files } = await readFixture();
    const [store, view] = catalogue.categories;
    const base = files["base"];
    if (store === undefined || view === undefined || base === undefined) throw new Error("not in the fixture");
    // The crate fits with nothing.
    const categories = [{ ...store, tools: store.tools.filter(({ id }) => id === "shelf") }, view];
    const pinned = { ...base.pins, numpy: ["numpy==2.4.6"], pytest: ["pytest==9.2.0"], needed: ["needed==1.5"] };
    const changed = { ...files, base: { ...base, pins: pinned } };
    const all = await dependenciesOfProjects({ ...catalogue, categories }, changed, index(newest, fit, message));
    return Object.fromEntries(all.map((dependency) => [dependency.name, dependency]));
  }

  const current = { attrs: "25.4.0", numpy: "2.4.6", pydantic: "2.12.4", pytest: "9.2.0", needed: "1.5" };

  test("the newest of all need no reason", async () => {
    const found = await ask(current, current, "");
    expect(found["attrs"]).toEqual({ name: "attrs", used: "25.4.0", newest: "25.4.0", direct: true, where: "all" });
    expect(found["needed"]).toMatchObject({ direct: false, where: "all" });
    expect(Object.values(found).filter(isUnexplained)).toEqual([]);
  });

  test("a cap is explained by what is written beside it", async () => {
    const { numpy } = await ask({ ...current, numpy: "3.0" }, current, "");
    expect(numpy?.hold).toEqual({ text: "a cap of our own: the next major changes the array layout", explained: true });
  });

  test("a requirement of another package is named with its version", async () => {
    const message = "Because pydantic==2.12.4 depends on needed>=1,<2 and you require needed==2.0, we can conclude";
    const { needed } = await ask({ ...current, needed: "2.0" }, current, message);
    expect(needed?.hold).toEqual({ text: "pydantic 2.12.4 needs needed>=1,<2", explained: true });
  });

  test("what could be taken, or uv gives no reason for, is not explained", async () => {
    const newest = { ...current, needed: "2.0", pydantic: "3.0" };
    const { needed, pydantic } = await ask(
      newest,
      { ...current, needed: "2.0" },
      "error: No solution\n  cause: Because of b\n",
    );
    expect(pydantic?.hold?.text).toBe("Because of b");
    expect([needed, pydantic].map((one) => one?.hold?.explained)).toEqual([undefined, false]);
    expect([needed, pydantic].map((one) => one !== undefined && isUnexplained(one))).toEqual([true, true]);
  });

  test("no answer is no reason", async () => {
    await expect(ask({ ...current, pydantic: "3.0" }, current, "connection refused")).rejects.toThrow(RegistryError);
  });

  test("of the real ones, all is told that is required, and uv with what it builds with", async () => {
    const { catalogue, files } = await readTemplates(join(ROOT, "templates"));
    // What is required is pinned as well, but for uv and uv-build.
    const asIs: Resolve = async (lines) => {
      const pins = lines.filter((line) => /^[\w-]+>=[^,]+$/.test(line)).map((line) => line.replace(">=", "=="));
      return readPins(pins.join("\n"), "index");
    };
    const found = await dependenciesOfProjects(catalogue, files, asIs);
    const direct = found.filter((dependency) => dependency.direct).map(({ name }) => name);
    const parts = [catalogue.base, ...catalogue.categories.flatMap(({ tools }) => tools)];
    const required = parts.flatMap(({ dependencies, devDependencies }) => [...dependencies, ...devDependencies]);
    expect(direct).toEqual(expect.arrayContaining(["uv", "uv-build"]));
    expect(
      required
        .map(({ requirement }) => requirement.match(/^[\w-]+/)?.[0])
        .filter((name = "") => !direct.includes(name)),
    ).toEqual([]);
  });
});

test.each([
  [
    "another's requirement",
    "Because prefect==3.9.1 depends on cachetools>=5.3,<8.0 and you require prefect==3.9.1, we can conclude that you require cachetools>=5.3,<8.0.\n And because you require cachetools==8.0.2",
    ["prefect cachetools>=5.3,<8.0"],
  ],
  [
    "no conclusion",
    "Because b==1 depends on a==1 and a==1 depends on cachetools<8, we can conclude that b==1 depends on cachetools<8.\n And",
    ["a cachetools<8"],
  ],
  ["with extras", "Because b[x]>=1 depends on CacheTools[fast]>=1,<8, we can", ["b CacheTools[fast]>=1,<8"]],
  ["one of several", "Because b==1 depends on one of:\n    cachetools<7\n    cachetools>9\n and", ["b cachetools<7"]],
  [
    "its own",
    "does not satisfy Python>=3.12 and cachetools==8.0.2 depends on Python>=3.12, we",
    ["cachetools Python>=3.12"],
  ],
  ["of neither", "Because a==1 depends on b<2 and you require b==3", []],
])("uv's message is read: %s", (_, message, expected) => {
  expect(needsIn(message, "cachetools").map(({ holder, requirement }) => `${holder} ${requirement}`)).toEqual(expected);
});

describe("the generator", () => {
  const manifest = {
    engines: { node: ">=20.19" },
    devDependencies: { "@types/node": "20.0.0", runner: "4.0.0", plugin: "1.0.0", command: "1.0.0", free: "1.0.0" },
    "//": { "@types/node": "as the oldest Node" },
  };
  const lock: Lock = {
    packages: {
      "": { version: "0.1.0" },
      "node_modules/@types/node": { version: "20.0.0" },
      "node_modules/runner": {
        version: "4.0.0",
        dependencies: { part: "^1.0.0", free: "^1.0.0" },
        peerDependencies: { plugin: "1" },
      },
      "node_modules/plugin": { version: "1.0.0" },
      "node_modules/part": { version: "1.2.0" },
      "node_modules/runner/node_modules/@scope/inner": { version: "1.0.0" },
      "node_modules/command": { version: "1.0.0" },
      "node_modules/free": { version: "1.0.0" },
      "node_modules/system-specific": { version: "1.0.0", optional: true },
    },
  };
  const latest: Lock = {
    packages: {
      "node_modules/@types/node": { version: "26.0.0" },
      "node_modules/runner": { version: "5.0.0", engines: { node: "^22.12.0 || >=24" } },
      "node_modules/plugin": { version: "2.0.0", engines: { node: "^20.19.0 || >=22" } },
      "node_modules/part": { version: "2.0.0" },
      "node_modules/@scope/inner": { version: "2.0.0" },
      "node_modules/command": { version: "1.0.0" },
      "node_modules/free": { version: "2.0.0" },
    },
  };
  const found = new Map<string, Dependency>(compare(manifest, lock, latest).map((one) => [one.name, one]));

  test.each([
    ["@types/node", "a pin of our own: as the oldest Node"],
    ["runner", "Node 20.19.0, which is supported here: it needs ^22.12.0 || >=24"],
    ["plugin", "runner 4.0.0 needs 1"],
    ["part", "runner 4.0.0 needs ^1.0.0"],
    // Another package's requirement gets a copy of its own.
    ["free", undefined],
    ["@scope/inner", undefined],
    ["command", undefined],
  ])("%s is held back by %s", (name, text) => {
    expect(found.get(name)?.hold?.text).toBe(text);
  });

  test("what only some systems install is left out, and what only others need is told apart", () => {
    expect([...found.values()].filter(isUnexplained).map(({ name }) => name)).toEqual(["@scope/inner", "free"]);
    expect([...found.values()].filter(({ direct }) => !direct).map(({ name }) => name)).toEqual([
      "part",
      "@scope/inner",
    ]);
    expect(found.has("system-specific")).toBe(false);
  });

  test("each reason in package.json is for a package that it pins", async () => {
    const { devDependencies, "//": reasons } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8"));
    expect(Object.keys(reasons).filter((name) => !(name in devDependencies))).toEqual([]);
  });
});

test("of a registry that does not answer, the innermost cause is told", () => {
  expect(causeIn("error: Request failed\n  cause: client error\n  cause: Connection refused (os error 111)\n")).toBe(
    "Connection refused (os error 111)",
  );
  expect(
    causeIn("npm error code E1\nnpm error syscall connect\nnpm error FetchError: reason: refused\nnpm error   at x"),
  ).toBe("FetchError: reason: refused");
  expect(causeIn("")).toBeUndefined();
});

test("without a registry the command says so in a line, and exits with 2", async () => {
  // Nobody listens there.
  const nowhere = "http://127.0.0.1:9/";
  const env = { ...process.env, UV_DEFAULT_INDEX: nowhere, UV_HTTP_RETRIES: "0", UV_NO_CACHE: "1" };
  const { code, stdout, stderr } = await new Promise<{ code: unknown; stdout: string; stderr: string }>((resolve) => {
    execFile(process.execPath, [join(ROOT, "scripts/freshness.js")], { env }, (error, out, err) =>
      resolve({ code: error?.code, stdout: out, stderr: err }),
    );
  });
  expect({ code, stdout }).toEqual({ code: 2, stdout: "" });
  expect(stderr).toMatch(/^uv got no answer: .+\n$/);
});
