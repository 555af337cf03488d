import { execFileSync } from "node:child_process";
import { join, resolve } from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { nextSteps, pathFrom, quote, setupSteps } from "../../src/steps.ts";

const onPosix = describe.runIf(process.platform !== "win32");

onPosix("in a POSIX shell", () => {
  test("a quoted path reaches the command as it is", () => {
    const words = fc.string({ unit: "grapheme", minLength: 1 }).filter((word) => !word.includes("\0"));
    fc.assert(
      fc.property(words, (word) => {
        expect(execFileSync("sh", ["-c", `printf %s ${quote(word)}`], { encoding: "utf8" })).toBe(word);
      }),
      { numRuns: 100 },
    );
  });

  test("plain paths stay plain", () => {
    expect(quote("../my-app/проект")).toBe("../my-app/проект");
  });

  test("with uv: enter, sync unless it is done, run", () => {
    const path = join("/a", "b c", "my-app");
    expect(nextSteps("my-app", path, "/a", { uv: true }, false)).toEqual([
      "cd 'b c/my-app'",
      "uv sync",
      "uv run my-app dev",
    ]);
    expect(nextSteps("my-app", path, path, { uv: true }, true)).toEqual(["uv run my-app dev"]);
  });

  test("without uv: the uv of the project's environment", () => {
    expect(nextSteps("my-app", "/a/my-app", "/a", { uv: false, python: "python3.13" }, true)).toEqual([
      "cd my-app",
      ".venv/bin/uv run my-app dev",
    ]);
    expect(setupSteps({ uv: false, python: "python3.13" })[0]).toBe("python3.13 -m venv .venv");
  });
});

test("a path from here leads back to it", () => {
  const segments = fc.array(fc.stringMatching(/^[a-z-][a-z -]{0,5}[a-z]$/), { maxLength: 4 });
  fc.assert(
    fc.property(segments, segments, (from, to) => {
      const [cwd, path] = [resolve("/", ...from), resolve("/", ...to)];
      expect(resolve(cwd, pathFrom(cwd, path))).toBe(path);
      expect(pathFrom(cwd, path)).not.toMatch(/^-/);
    }),
  );
});
