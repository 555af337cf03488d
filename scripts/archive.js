// Adds a version's templates to the archive that a project of it is updated from: see CONTRIBUTING.md.
import { join } from "node:path";
import { parseArgs } from "node:util";
import { importTypeScript } from "./import-typescript.js";

const root = join(import.meta.dirname, "..");
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    current: { type: "string", default: join(root, "templates") },
    archive: { type: "string", default: join(root, "archive") },
  },
});
/** @type {typeof import("./archive/run.ts")} */
const { run } = await importTypeScript("scripts/archive/run.ts");
process.exitCode = await run(positionals, values.current, values.archive);
