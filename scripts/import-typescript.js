import { mkdir, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { rolldown } from "rolldown";

const root = join(import.meta.dirname, "..");

/**
 * Imports a module of this repository, which Node 20 cannot do by itself. What it and its imports ask of where they lie is
 * answered for the source.
 * @param {string} path
 */
export async function importTypeScript(path) {
  const cache = join(root, "node_modules/.cache/create-ai-stack");
  const file = join(cache, `${process.pid}-${path.replaceAll("/", "-")}.js`);
  const external = /^(?:compiled:|[a-z@][^:]*$)/;
  const located = {
    name: "located",
    transform: (/** @type {string} */ code, /** @type {string} */ id) =>
      code.replaceAll("import.meta.dirname", JSON.stringify(dirname(id))),
  };
  const bundle = await rolldown({ input: join(root, path), platform: "node", external, plugins: [located] });
  await mkdir(cache, { recursive: true });
  await bundle.write({ file, format: "esm" });
  try {
    return await import(pathToFileURL(file).href);
  } finally {
    await rm(file);
  }
}
