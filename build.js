// Compiles src/, templates/ and archive/ into dist/. Options: --templates DIR, --archive DIR, --out DIR.
import { existsSync } from "node:fs";
import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { brotliCompressSync, constants } from "node:zlib";
import { rolldown } from "rolldown";
import { importTypeScript } from "./scripts/import-typescript.js";

const { BROTLI_PARAM_LGWIN } = constants;
const { values } = parseArgs({
  options: {
    templates: { type: "string", default: "templates" },
    archive: { type: "string", default: "archive" },
    out: { type: "string", default: "dist" },
  },
});
const root = import.meta.dirname;
const out = resolve(values.out);
const { version } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));

await rm(out, { recursive: true, force: true });
const { catalogue, files } = await readTemplates(resolve(values.templates));
await mkdir(out, { recursive: true });
// Smaller than npm's gzip makes it: much in it is alike from tool to tool.
const templates = Buffer.from(asAscii(JSON.stringify(files)));
await writeFile(
  join(out, "templates.json.br"),
  brotliCompressSync(templates, { params: { [BROTLI_PARAM_LGWIN]: 24 } }),
);
// There is none before the first version has a successor.
const archive = join(resolve(values.archive), "archive.json.br");
if (existsSync(archive)) await copyFile(archive, join(out, "archive.json.br"));
// The MCP SDK's own bring a validator for forms that users fill in at a client. No tool asks for one, and it is large.
const shims = 'export { default as process } from "node:process"; export class DefaultJsonSchemaValidator {}';
const bundle = await rolldown({
  input: { cli: join(root, "src/cli.ts"), index: join(root, "src/index.ts") },
  platform: "node",
  // Fewer files to load: what several commands share goes into cli.cjs.
  preserveEntrySignatures: "allow-extension",
  transform: { define: { VERSION: JSON.stringify(version) } },
  plugins: [compiled({ catalogue: asJson(catalogue), nothing: "", shims })],
});
// Node loads CommonJS in less time than ES modules.
const names = { entryFileNames: "[name].cjs", chunkFileNames: "[name].cjs" };
const { output } = await bundle.write({ dir: out, format: "cjs", minify: true, ...names });
await writeFile(join(out, "THIRD-PARTY-LICENSES"), await licences(output));

async function readTemplates(/** @type {string} */ templates) {
  try {
    /** @type {typeof import("./src/read-templates.ts")} */
    const module = await importTypeScript("src/read-templates.ts");
    return await module.readTemplates(templates);
  } catch (error) {
    if (!(error instanceof Error && "hint" in error)) throw error;
    console.error(`${error.message}\n${error.hint}`);
    process.exit(1);
  }
}

/**
 * `import "compiled:name"` for each module.
 * @param {Record<string, string>} modules
 * @returns {import("rolldown").Plugin}
 */
function compiled(modules) {
  const prefix = "compiled:";
  return {
    name: "compiled",
    resolveId: (id, importer) => {
      // Commander loads this for subcommands that are programs of their own; there are none, and it takes time.
      if (id === "node:child_process" && importer?.includes("commander")) return { id: `\0${prefix}nothing` };
      if (id === "@modelcontextprotocol/server/_shims") return { id: `\0${prefix}shims` };
      return id.startsWith(prefix) ? { id: `\0${id}` } : null;
    },
    load: (id) => (id.startsWith(`\0${prefix}`) ? modules[id.slice(prefix.length + 1)] : null),
  };
}

/** Node holds a text of one byte a character in half the memory. */
function asAscii(/** @type {string} */ json) {
  return json.replace(/[^\0-\x7f]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

function asJson(/** @type {unknown} */ value) {
  // JSON.parse of a string starts faster than the same object as code.
  return `export default JSON.parse(${JSON.stringify(JSON.stringify(value))});`;
}

/** @param {import("rolldown").RolldownOutput["output"]} chunks */
async function licences(chunks) {
  const packages = new Set(
    chunks
      .flatMap((chunk) => (chunk.type === "chunk" ? chunk.moduleIds : []))
      .filter((id) => !id.startsWith("\0"))
      .flatMap((id) => id.replaceAll("\\", "/").match(/^(.*\/node_modules\/(?:@[^/]+\/)?[^/]+)\//)?.[1] ?? []),
  );
  const texts = [...packages].sort().map(async (folder) => {
    const { name, version, license } = JSON.parse(await readFile(join(folder, "package.json"), "utf8"));
    return `${name} ${version} (${license})\n\n${await licenceText(folder)}`;
  });
  return (await Promise.all(texts)).join(`\n\n${"-".repeat(80)}\n\n`);
}

async function licenceText(/** @type {string} */ folder) {
  for (const name of ["LICENSE", "LICENSE.md", "LICENSE.txt", "license", "LICENCE", "license.md"]) {
    try {
      return (await readFile(join(folder, name), "utf8")).trim();
    } catch {}
  }
  throw new Error(`no licence in ${folder}`);
}
