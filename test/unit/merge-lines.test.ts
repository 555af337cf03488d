import fc from "fast-check";
import { expect, test } from "vitest";
import { mergeLines } from "../../src/merge-lines.ts";

test.each([
  ["both sides change other lines", "a\nb\nc\nd\n", "A\nb\nc\nd\n", "a\nb\nc\nD\n", "A\nb\nc\nD\n"],
  ["both sides make the same change", "a\nb\n", "x\nb\n", "x\nb\n", "x\nb\n"],
  ["the last line has no end", "a\nb\nc", "a\nb\nc\nd", "A\nb\nc", "A\nb\nc\nd"],
  ["only the end of the last line was taken away", "a\nb\nc\n", "a\nb\nc", "A\nb\nc\n", "A\nb\nc"],
  ["one side empties the file", "a\n", "", "a\n", ""],
  [
    "lines are called like members of every object",
    "__proto__\nb\nconstructor\n",
    "b\n",
    "__proto__\nB\nconstructor\n",
    "B\n",
  ],
])("%s: one text", (_, base, ours, theirs, expected) => {
  expect(mergeLines({ base, ours, theirs }, "1.0.0", "touching")).toEqual({ text: expected, conflicts: 0 });
});

test("where both sides change one line, both are there between markers", () => {
  const texts = { base: "a\nb\nc\n", ours: "a\nmine\nc\n", theirs: "a\nnew\nc\n" };
  const text = "a\n<<<<<<< yours\nmine\n=======\nnew\n>>>>>>> 1.0.0\nc\n";
  expect(mergeLines(texts, "1.0.0", "touching")).toEqual({ text, conflicts: 1 });
});

test("markers stand on lines of their own at the end of a file that has no last line end", () => {
  const { text } = mergeLines({ base: "a", ours: "mine", theirs: "new" }, "1.0.0", "apart");
  expect(text).toBe("<<<<<<< yours\nmine\n=======\nnew\n>>>>>>> 1.0.0\n");
});

test("a line beside a changed one: a conflict in code, none in a list of entries", () => {
  const texts = { base: "a\nb\nc\n", ours: "a\nb\nmine\nc\n", theirs: "a\nB\nc\n" };
  expect(mergeLines(texts, "1.0.0", "apart").conflicts).toBe(1);
  expect(mergeLines(texts, "1.0.0", "touching")).toEqual({ text: "a\nB\nmine\nc\n", conflicts: 0 });
});

test("dependencies come and go each for itself, and one that both have changed is in conflict", () => {
  const list = (...names: string[]) => `[\n${names.map((name) => `    "${name}",\n`).join("")}]\n`;
  const [base, theirs] = [list("alembic", "embedded", "psycopg"), list("numpy", "pymongo")];
  const added = list("alembic", "anthropic", "embedded", "httpx", "psycopg", "zarr");
  expect(mergeLines({ base, ours: added, theirs }, "1.0.0", "touching")).toEqual({
    text: list("numpy", "pymongo", "anthropic", "httpx", "zarr"),
    conflicts: 0,
  });
  const capped = list("alembic", "embedded<19", "psycopg");
  const { text, conflicts } = mergeLines({ base, ours: capped, theirs }, "1.0.0", "touching");
  expect([text.includes('"embedded<19",'), conflicts]).toEqual([true, 1]);
});

const line = fc.constantFrom("a", "b", "c", "", "__proto__", "constructor", '  "x",', '  "y",  # why');
const lines = fc.array(line, { maxLength: 12 });

/** A text, and lines that only one side can have written. */
function edited(base: string[], mark: string) {
  const edit = fc.record({
    at: fc.nat({ max: base.length }),
    remove: fc.nat({ max: 3 }),
    add: fc.array(
      fc.oneof(
        line,
        fc.nat({ max: 9 }).map((number) => `${mark}${number}`),
      ),
      { maxLength: 3 },
    ),
  });
  return fc
    .array(edit, { maxLength: 4 })
    .map((edits) => edits.reduce((text, { at, remove, add }) => text.toSpliced(at, remove, ...add), base));
}

const situations = lines.chain((base) =>
  fc.record({
    base: fc.constant(base),
    ours: edited(base, "mine "),
    theirs: edited(base, "new "),
    nearness: fc.constantFrom("apart" as const, "touching" as const),
    endings: fc.tuple(...[0, 1, 2].map(() => fc.constantFrom("\n", ""))),
  }),
);

function asText(content: string[], ending = "\n"): string {
  return content.length === 0 ? "" : `${content.join("\n")}${ending}`;
}

test("no line that only the user has written disappears, and none of the new ones", () => {
  fc.assert(
    fc.property(situations, ({ base, ours, theirs, nearness, endings: [first, second, third] }) => {
      const texts = { base: asText(base, first), ours: asText(ours, second), theirs: asText(theirs, third) };
      const { text } = mergeLines(texts, "1.0.0", nearness);
      const found = text.split("\n");
      for (const [side, mark] of [[ours, "mine "] as const, [theirs, "new "] as const]) {
        // In their order, and as often.
        expect(found.filter((entry) => entry.startsWith(mark))).toEqual(side.filter((entry) => entry.startsWith(mark)));
      }
    }),
    { numRuns: 2000 },
  );
});

test("without a conflict, each side's text is there as it was but for what the other has changed", () => {
  fc.assert(
    fc.property(situations, ({ base, ours, theirs, nearness }) => {
      const texts = { base: asText(base), ours: asText(ours), theirs: asText(theirs) };
      expect(mergeLines({ ...texts, theirs: texts.base }, "", nearness)).toEqual({ text: texts.ours, conflicts: 0 });
      expect(mergeLines({ ...texts, ours: texts.base }, "", nearness)).toEqual({ text: texts.theirs, conflicts: 0 });
      expect(mergeLines({ ...texts, theirs: texts.ours }, "", nearness)).toEqual({ text: texts.ours, conflicts: 0 });
    }),
    { numRuns: 2000 },
  );
});

test("the number of conflicts is that of the markers", () => {
  fc.assert(
    fc.property(situations, ({ base, ours, theirs, nearness }) => {
      const texts = { base: asText(base), ours: asText(ours), theirs: asText(theirs) };
      const { text, conflicts } = mergeLines(texts, "1.0.0", nearness);
      for (const marker of ["<<<<<<< yours", "=======", ">>>>>>> 1.0.0"]) {
        expect(text.split("\n").filter((found) => found === marker)).toHaveLength(conflicts);
      }
    }),
  );
});
