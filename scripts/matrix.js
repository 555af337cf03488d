// Proves that each combination of tools makes a project that works: see CONTRIBUTING.md.
import { join } from "node:path";
import { importTypeScript } from "./import-typescript.js";

/** @type {typeof import("../test/matrix/run.ts")} */
const { run } = await importTypeScript("test/matrix/run.ts");
process.exitCode = await run(join(import.meta.dirname, ".."), process.argv.slice(2));
