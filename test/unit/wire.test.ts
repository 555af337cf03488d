import { join } from "node:path";
import { expect, test } from "vitest";
import { readTemplates } from "../../src/read-templates.ts";
import { allOf } from "../matrix/combinations.ts";
import { Wire } from "../matrix/wire.ts";

test("each tool of the catalogue has a check of what it sends, and one without is told what to add", async () => {
  const { catalogue } = await readTemplates(join(import.meta.dirname, "../../templates"));
  for (const combination of allOf(catalogue)) expect(() => new Wire(combination)).not.toThrow();
  expect(() => new Wire({ observability: "spyglass", api: "fastapi" })).toThrow(
    /spyglass.* VENDORS in test\/matrix\/wire\.ts, .* test\/stack\/spyglass_api\.py/,
  );
  expect(() => new Wire({ observability: "logfire", api: "telegraph" })).toThrow(/telegraph.* APIS in/);
});
