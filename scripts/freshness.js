// Tells of every dependency the version in use, the newest release and what holds it back: see CONTRIBUTING.md.
import { join } from "node:path";
import { importTypeScript } from "./import-typescript.js";

/** @type {typeof import("./freshness/run.ts")} */
const { run } = await importTypeScript("scripts/freshness/run.ts");
process.exitCode = await run(join(import.meta.dirname, ".."));
