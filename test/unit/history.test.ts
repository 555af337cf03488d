import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { hashRenders, LIMIT, pack } from "../../scripts/archive/run.ts";
import { ARCHIVE_FILE, loadArchive, type Templates, unpack } from "../../src/history.ts";
import { readTemplates } from "../../src/read-templates.ts";

const ROOT = join(import.meta.dirname, "../..");
const NONE = { versions: {}, texts: [] };

let current: Templates;

beforeAll(async () => {
  current = await readTemplates(join(ROOT, "templates"));
});

/** The templates with another text in one file, as an earlier version could have had them. */
function former(text: string): Templates {
  const copy = structuredClone(current);
  const base = copy.files["base"];
  if (base === undefined) throw new Error("no base");
  base.files["app/agent.py"] = `# ${text}\n${base.files["app/agent.py"]}`;
  return copy;
}

test("a version comes out of the archive as it went in, and what the current templates have is not in it twice", () => {
  const old = former("before");
  const archive = pack("0.0.2", old, pack("0.0.1", former("long before"), NONE, current), current);
  expect(archive.texts.map((text) => text.split("\n")[0])).toEqual(["# before", "# long before"]);
  expect(unpack("0.0.2", archive, current)).toEqual(old);
  expect(unpack("0.0.1", archive, current)).toEqual(former("long before"));
  expect(unpack("0.0.3", archive, current)).toBeUndefined();
  expect(unpack("constructor", archive, current)).toBeUndefined();
});

test("what the current templates no longer have is told, until the version is archived once more", () => {
  const archive = pack("0.0.1", current, NONE, current);
  const later = former("later");
  expect(() => unpack("0.0.1", archive, later)).toThrow("the archive of 0.0.1 lacks a text");
  expect(unpack("0.0.1", pack("0.0.1", current, archive, later), later)).toEqual(current);
});

test("what stands for a text in an archive is no text of a template", () => {
  expect(JSON.stringify(current)).not.toContain("\\u0000");
});

test("the committed archive has at most 100 kB, and every release but the current one", () => {
  const file = join(ROOT, "archive", ARCHIVE_FILE);
  if (existsSync(file)) expect(statSync(file).size).toBeLessThanOrEqual(LIMIT);
  const changelog = readFileSync(join(ROOT, "CHANGELOG.md"), "utf8");
  const releases = [...changelog.matchAll(/^## (\d+\.\d+\.\d+)(.*)$/gm)];
  expect(releases.length).toBeGreaterThan(0);
  const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  const earlier = releases.flatMap(([, release]) => (release === version ? [] : [release]));
  expect(Object.keys(loadArchive(join(ROOT, "archive")).versions).sort()).toEqual(earlier.sort());
});

test("each archived version still renders what it rendered when it was archived", () => {
  const archive = loadArchive(join(ROOT, "archive"));
  for (const [version, { renders }] of Object.entries(archive.versions)) {
    const templates = unpack(version, archive, current);
    expect(templates === undefined ? undefined : hashRenders(templates, version), version).toBe(renders);
  }
  const made = pack("0.0.1", former("before"), NONE, current);
  const unpacked = unpack("0.0.1", made, current);
  expect(unpacked === undefined ? undefined : hashRenders(unpacked, "0.0.1")).toBe(made.versions["0.0.1"]?.renders);
});
