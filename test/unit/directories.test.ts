import { posix, win32 } from "node:path";
import { expect, test } from "vitest";
import { isBelow } from "../../src/mcp/directories.ts";

test.each([
  [posix, "/a/b", "/a/b/c", true],
  [posix, "/a/b", "/a/b/..c", true],
  [posix, "/", "/a", true],
  [posix, "/a/b", "/a/b", false],
  [posix, "/a/b", "/a", false],
  [posix, "/a/b", "/a/bc", false],
  [posix, "/a/b", "/a/B/c", false],
  [win32, "C:\\a\\b", "c:\\A\\b\\c", true],
  [win32, "C:\\", "C:\\a", true],
  [win32, "C:\\a\\b", "C:\\a\\bc", false],
  [win32, "C:\\a\\b", "D:\\a\\b\\c", false],
  [win32, "C:\\a\\b", "C:\\a", false],
  [win32, "\\\\host\\share\\a", "\\\\HOST\\share\\a\\b", true],
  [win32, "\\\\host\\share\\a", "\\\\host\\other\\a\\b", false],
  [win32, "\\\\host\\share\\a", "C:\\a\\b", false],
])("below, as the system sees it: %#", (system, folder, place, expected) => {
  expect(isBelow(folder, place, system)).toBe(expected);
});
