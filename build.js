// Compiles src/ and templates/ into dist/. Options: --templates DIR, --out DIR.
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { rolldown } from "rolldown";

const { values } = parseArgs({
  options: { templates: { type: "string", default: "templates" }, out: { type: "string", default: "dist" } },
});
const root = import.meta.dirname;
const out = resolve(values.out);
const { version } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));

await rm(out, { recursive: true, force: true });
const { catalogue, files } = await readTemplates(resolve(values.templates));
const bundle = await rolldown({
  input: { cli: join(root, "src/cli.ts") },
  platform: "node",
  transform: { define: { VERSION: JSON.stringify(version) } },
  plugins: [compiled({ catalogue: asJson(catalogue), files: asCode(files) })],
});
const { output } = await bundle.write({ dir: out, format: "esm", minify: true, chunkFileNames: "[name].js" });
await writeFile(join(out, "THIRD-PARTY-LICENSES"), await licences(output));

/** Runs src/read-templates.ts, which Node 20 cannot do by itself. */
async function readTemplates(/** @type {string} */ templates) {
  const cache = join(root, "node_modules/.cache/create-ai-stack");
  const file = join(cache, `read-templates-${process.pid}.js`);
  const reader = await rolldown({
    input: join(root, "src/read-templates.ts"),
    platform: "node",
    external: ["yaml", "handlebars", /^compiled:/],
  });
  await mkdir(cache, { recursive: true });
  await reader.write({ file, format: "esm" });
  try {
    const module = await import(pathToFileURL(file).href);
    return await module.readTemplates(templates, module.precompileTemplate);
  } catch (error) {
    if (!(error instanceof Error && "hint" in error)) throw error;
    console.error(`${error.message}\n${error.hint}`);
    process.exit(1);
  } finally {
    await rm(file);
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
    resolveId: (id) => (id.startsWith(prefix) ? { id: `\0${id}` } : null),
    load: (id) => (id.startsWith(`\0${prefix}`) ? modules[id.slice(prefix.length + 1)] : null),
  };
}

function asJson(/** @type {unknown} */ value) {
  // JSON.parse of a string starts faster than the same object as code.
  return `export default JSON.parse(${JSON.stringify(JSON.stringify(value))});`;
}

/** @param {Record<string, { templates: Record<string, string> }>} files */
function asCode(files) {
  const owners = Object.entries(files).map(([owner, { templates, ...texts }]) => {
    const functions = Object.entries(templates).map(([path, code]) => `${JSON.stringify(path)}: template(${code})`);
    const text = JSON.stringify(JSON.stringify(texts));
    return `${JSON.stringify(owner)}: { ...JSON.parse(${text}), templates: { ${functions.join(", ")} } }`;
  });
  return `import handlebars from "handlebars/runtime.js";
const { template } = handlebars;
export default { ${owners.join(",\n")} };`;
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
