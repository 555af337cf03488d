import { createHash } from "node:crypto";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { brotliCompressSync, constants } from "node:zlib";
import { ARCHIVE_FILE, type Archive, loadArchive, mapTexts, referTo, type Templates } from "../../src/history.ts";
import { makePlan } from "../../src/plan.ts";
import { readTemplates } from "../../src/read-templates.ts";
import { render } from "../../src/render.ts";
import { allOf } from "../../test/matrix/combinations.ts";

// Shorter ones cost no more than what would stand for them.
const LONG = 100;

export const LIMIT = 100_000;

/** `npm run archive -- <version> <folder of its templates>`. Returns the exit code. */
export async function run([version, folder]: string[], currentFolder: string, archiveFolder: string): Promise<number> {
  if (version === undefined || folder === undefined) {
    process.stderr.write("npm run archive -- <version> <folder with the templates of that version>\n");
    return 2;
  }
  const current = await readTemplates(currentFolder);
  const archive = pack(version, await readTemplates(folder), loadArchive(archiveFolder), current);
  const bytes = compress(archive);
  await mkdir(archiveFolder, { recursive: true });
  await writeFile(join(archiveFolder, ARCHIVE_FILE), bytes);
  process.stdout.write(`${Object.keys(archive.versions).join(", ")}: ${bytes.length} bytes\n`);
  return bytes.length > LIMIT ? 1 : 0;
}

/** The archive with one version more, or with that one anew. */
export function pack(version: string, templates: Templates, archive: Archive, current: Templates): Archive {
  const known = textsOf(current);
  const found = textsOf({ texts: archive.texts, templates });
  const packed = mapTexts(templates, (text) => (text.length < LONG ? text : referTo(text)));
  const versions = { ...archive.versions, [version]: { templates: packed, renders: hashRenders(templates, version) } };
  const wanted = new Set<string>();
  mapTexts(versions, (text) => void wanted.add(text));
  const texts = [...found].flatMap(([mark, text]) => (wanted.has(mark) && !known.has(mark) ? [text] : []));
  // Versions of one text stand side by side, where they compress best.
  return { versions, texts: texts.sort() };
}

/** One hash of all files of all projects that a version can make. */
export function hashRenders({ catalogue, files }: Templates, version: string): string {
  const hash = createHash("sha256");
  for (const tools of allOf(catalogue)) {
    const plan = makePlan({ name: "my-app", tools }, catalogue, version);
    hash.update(JSON.stringify([...render(plan, files)]));
  }
  return hash.digest("hex");
}

function textsOf(value: unknown): Map<string, string> {
  const texts = new Map<string, string>();
  mapTexts(value, (text) => void texts.set(referTo(text), text));
  return texts;
}

function compress(archive: Archive): Buffer {
  const json = Buffer.from(JSON.stringify(archive));
  const params = {
    [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY,
    [constants.BROTLI_PARAM_LGWIN]: constants.BROTLI_MAX_WINDOW_BITS,
    [constants.BROTLI_PARAM_SIZE_HINT]: json.length,
  };
  return brotliCompressSync(json, { params });
}
