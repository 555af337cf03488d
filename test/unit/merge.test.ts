import { join } from "node:path";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { mergeWork, renderAs } from "../../src/change.ts";
import type { Templates } from "../../src/history.ts";
import { type Change, merge, type Rules } from "../../src/merge.ts";
import { readTemplates } from "../../src/read-templates.ts";
import { defaultOf } from "../matrix/combinations.ts";

type Files = Record<string, string>;

const RULES: Rules = {
  mergeBy: (path) => (path.startsWith("seam") ? "whole" : path.endsWith(".py") ? "apart" : "touching"),
  label: "1.0.0",
  keepAs: (path) => `${path}.orig`,
};

function mergeFiles(base: Files, ours: Record<string, string | Uint8Array>, theirs: Files): Change[] {
  const [from, to] = [new Map(Object.entries(base)), new Map(Object.entries(theirs))];
  const present = Object.entries(ours).map(([path, content]): [string, Uint8Array] => [path, Buffer.from(content)]);
  return merge({ base: from, ours: new Map(present), theirs: to }, RULES);
}

test.each<[string, Files, Files, Files, Partial<Change>[]]>([
  ["untouched: the new one", { a: "1\n" }, { a: "1\n" }, { a: "2\n" }, [{ action: "replace", content: "2\n" }]],
  ["untouched, and gone", { a: "1\n" }, { a: "1\n" }, {}, [{ action: "delete", content: null }]],
  ["new", {}, {}, { a: "2\n" }, [{ action: "add", content: "2\n" }]],
  ["edited, and the same before and after", { a: "1\n" }, { a: "x\n" }, { a: "1\n" }, []],
  ["edited as it shall be", { a: "1\n" }, { a: "2\n" }, { a: "2\n" }, []],
  ["deleted by the user: stays so, with a record", { a: "1\n" }, {}, { a: "2\n" }, [{ action: "skip" }]],
  ["deleted by both", { a: "1\n" }, {}, {}, []],
  ["both have made it", {}, { a: "x\n" }, { a: "2\n" }, [{ action: "conflict", content: "2\n", kept: "a.orig" }]],
  ["edited, and gone", { a: "1\n" }, { a: "x\n" }, {}, [{ action: "conflict", content: null, kept: "a.orig" }]],
  [
    "edited in a seam",
    { "seam.py": "1\n" },
    { "seam.py": "1\nx\n" },
    { "seam.py": "1\n2\n" },
    [{ action: "conflict", content: "1\n2\n", kept: "seam.py.orig" }],
  ],
  ["line ends of Windows alone are no edit", { a: "1\n" }, { a: "1\r\n" }, { a: "2\n" }, [{ content: "2\r\n" }]],
  [
    "edited with line ends of Windows",
    { a: "1\n2\n3\n" },
    { a: "x\r\n1\r\n2\r\n3\r\n" },
    { a: "1\n2\n4\n" },
    [{ action: "merge", content: "x\r\n1\r\n2\r\n4\r\n" }],
  ],
])("%s", (_, base, ours, theirs, expected) => {
  expect(mergeFiles(base, ours, theirs)).toEqual(expected.map((change) => expect.objectContaining(change)));
});

test("a file that is not UTF-8, or too large to be read, is kept beside the new one", () => {
  const large = `${"x".repeat(99)}\n`.repeat(1100);
  for (const [mine, theirs] of [
    [Buffer.from([0x31, 0xff, 0x0a]), "2\n"],
    [`${large}mine\n`, `new\n${large}`],
  ] as const) {
    const base = typeof mine === "string" ? large : "1\n";
    expect(mergeFiles({ a: base }, { a: mine }, { a: theirs })).toEqual([
      { path: "a", action: "conflict", content: theirs, kept: "a.orig" },
    ]);
  }
});

const path = fc.constantFrom<string>("seam.py", "code.py", "list.txt", "folder/other");
const content = fc.array(fc.constantFrom("a", "b", "c", "", "d"), { maxLength: 8 });
const files = fc.dictionary(path, content.map(asText), { noNullPrototype: true });

function asText(lines: string[]): string {
  return lines.map((line) => `${line}\n`).join("");
}

/** The base's files, some of them deleted, some with lines of the user's own, some with line ends of Windows. */
function edit(base: Files) {
  const paths = fc.uniqueArray(path);
  const added = fc.array(fc.record({ path, at: fc.nat({ max: 8 }), number: fc.nat({ max: 99 }) }), { maxLength: 6 });
  return fc.record({ deleted: paths, crlf: paths, added }).map(({ deleted, crlf, added: lines }) => {
    const ours = Object.fromEntries(Object.entries(base).filter(([name]) => !deleted.includes(name)));
    for (const { path: name, at, number } of lines) {
      const text = (ours[name] ?? "").split("\n").slice(0, -1);
      ours[name] = asText(text.toSpliced(at, 0, `mine ${number}`));
    }
    for (const name of crlf) if (ours[name] !== undefined) ours[name] = ours[name].replaceAll("\n", "\r\n");
    return ours;
  });
}

const situations = files.chain((base) => fc.record({ base: fc.constant(base), ours: edit(base), theirs: files }));

function apply(ours: Files, changes: Change[]): Files {
  const result = { ...ours };
  for (const { path: name, content: after, kept } of changes) {
    if (kept !== undefined) result[kept] = ours[name] ?? "";
    if (after === null) delete result[name];
    else if (after !== undefined) result[name] = after;
  }
  return result;
}

const mineIn = (all: Files) =>
  Object.values(all)
    .flatMap((text) => text.match(/^mine \d+/gm) ?? [])
    .sort();

test("no line of the user's disappears, whatever the two renders are", () => {
  fc.assert(
    fc.property(situations, ({ base, ours, theirs }) => {
      expect(mineIn(apply(ours, mergeFiles(base, ours, theirs)))).toEqual(mineIn(ours));
    }),
    { numRuns: 2000 },
  );
});

test("each path that differs is as it shall be, or the user's work on it is there or recorded", () => {
  fc.assert(
    fc.property(situations, ({ base, ours, theirs }) => {
      const changes = mergeFiles(base, ours, theirs);
      const result = apply(ours, changes);
      const unix = (text: string | undefined) => text?.replaceAll("\r\n", "\n");
      for (const name of new Set<string>([...Object.keys(base), ...Object.keys(theirs), ...Object.keys(ours)])) {
        const change = changes.find((found) => found.path === name);
        if (base[name] === theirs[name]) expect([change, result[name]]).toEqual([undefined, ours[name]]);
        else if (unix(ours[name]) === base[name]) expect(unix(result[name])).toBe(theirs[name]);
        else if (ours[name] === undefined) expect(change?.action).toBe(theirs[name] === undefined ? undefined : "skip");
        else if (unix(ours[name]) !== theirs[name] && change?.action !== "conflict")
          expect(change?.kept).toBeUndefined();
        if (change?.action === "delete") expect(unix(ours[name])).toBe(base[name]);
      }
    }),
    { numRuns: 1000 },
  );
});

test("merged once more, nothing changes", () => {
  fc.assert(
    fc.property(situations, ({ base, ours, theirs }) => {
      const merged = apply(ours, mergeFiles(base, ours, theirs));
      expect(mergeFiles(theirs, merged, theirs)).toEqual([]);
      if (Object.keys(base).every((name) => ours[name] === base[name]) && mineIn(ours).length === 0) {
        expect(mergeFiles(base, merged, theirs)).toEqual([]);
      }
    }),
  );
});

describe("the tools that there are", () => {
  let templates: Templates;

  beforeAll(async () => {
    templates = await readTemplates(join(import.meta.dirname, "../../templates"));
  });

  test("a dependency of the user's, wherever it stands, is in no swap's way", () => {
    const { catalogue } = templates;
    const start = defaultOf(catalogue);
    for (const { id, tools } of catalogue.categories) {
      for (const [old, fresh] of tools.flatMap((one) => tools.map((other) => [one.id, other.id] as const))) {
        if (old === fresh) continue;
        // The engine that leaves the most dependencies side by side.
        const tools = { ...start, workflow: "prefect", [id]: old };
        const project = { root: "", name: "my-app", version: "1.0.0", tools };
        const from = renderAs(project, tools, templates, "1.0.0");
        const to = renderAs(project, { ...tools, [id]: fresh }, templates, "1.0.0");
        const lines = (from.files.get("pyproject.toml") ?? "").split("\n");
        const first = lines.indexOf("dependencies = [") + 1;
        const end = lines.indexOf("]", first);
        for (let at = first; at <= end; at += 1) {
          const text = lines.toSpliced(at, 0, '    "mine>=1",').join("\n");
          const present = new Map([["pyproject.toml", { content: Buffer.from(text), mode: 0o644 }]]);
          const changes = mergeWork({ from, to, label: fresh }, present, (name) => `${name}.orig`);
          const merged = changes.find(({ path: name }) => name === "pyproject.toml");
          const wanted = to.files.get("pyproject.toml")?.split("\n") ?? [];
          if (merged === undefined) continue;
          expect([merged.action, merged.content?.split("\n").sort()], `${old} → ${fresh}, ${at}`).toEqual([
            "merge",
            [...wanted, '    "mine>=1",'].sort(),
          ]);
        }
      }
    }
  });
});
