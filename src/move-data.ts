import { ownerOf } from "./catalogue.ts";
import type { Templates } from "./history.ts";
import type { Plan } from "./plan.ts";
import type { Present } from "./read-files.ts";
import type { FileMap } from "./render.ts";
import type { Tool } from "./tool.ts";

/** What moves the data of a tool to the one in its place, once: it stands in the project, and in the templates. */
export const MOVE_SCRIPT = "migrate_data.py";

const PARTS = "migrate_data_parts";
const REQUIREMENTS = `${PARTS}/requirements.txt`;

/** What follows `uv run`. */
export const MOVE_COMMAND = `--with-requirements ${REQUIREMENTS} ${MOVE_SCRIPT}`;

export const MOVE_ABOUT = `${MOVE_SCRIPT} moves your data from the old one to the new one. Its first lines say how; delete it afterwards.`;

/** What a tool has for that. */
export interface DataMove {
  /** The same for all tools of a category. */
  script: string;
  /** How this tool's data are read and written. */
  store: string;
}

type Read = (path: string, fallback?: string) => Promise<string>;

/** From the templates: a file in the tool's folder, and one in the folder above. */
export async function readMove(owner: string, read: Read): Promise<{ move?: DataMove }> {
  const store = await read(`${owner}/${MOVE_SCRIPT}`, "");
  return store === "" ? {} : { move: { script: await read(`${owner.replace(/\/.*/, "")}/${MOVE_SCRIPT}`), store } };
}

/** The files that a swap adds to those of the project, where data can be moved. */
export function renderMove(from: Plan, to: Plan, templates: Templates): FileMap {
  for (const fresh of to.tools) {
    const old = from.tools.find(({ category }) => category === fresh.category);
    if (old === undefined || old.id === fresh.id) continue;
    const [source, target] = [moveOf(old, templates), moveOf(fresh, templates)];
    if (source !== undefined && target !== undefined) return filesFor(old, source, target, templates);
  }
  return new Map();
}

/** Those that an earlier swap has left, and nobody has changed since. */
export function formerMove(present: ReadonlyMap<string, Present>, templates: Templates): FileMap {
  const tools = templates.catalogue.categories.flatMap((category) => category.tools);
  const texts = tools.flatMap((tool) => {
    const move = moveOf(tool, templates);
    return move === undefined ? [] : [...filesFor(tool, move, move, templates).values()];
  });
  const found = [...present].map(([path, { content }]) => [path, content.toString().replaceAll("\r\n", "\n")] as const);
  return new Map(found.filter(([path, text]) => isOfMove(path) && texts.includes(text)));
}

function isOfMove(path: string): boolean {
  return path === MOVE_SCRIPT || path.startsWith(`${PARTS}/`);
}

function filesFor(old: Tool, source: DataMove, target: DataMove, { files }: Templates): FileMap {
  // The server that stands in for that of production: it is gone from there, and is started once more.
  const server = files[ownerOf(old)]?.files[`embedded/${old.id}.py`];
  return new Map([
    [MOVE_SCRIPT, target.script],
    [`${PARTS}/new.py`, target.store],
    [`${PARTS}/old.py`, source.store],
    [REQUIREMENTS, renderRequirements(old, files[ownerOf(old)]?.pins ?? {})],
    ...(server === undefined ? [] : [[`${PARTS}/server.py`, server] as const]),
  ]);
}

function renderRequirements(old: Tool, pins: Record<string, string[]>): string {
  const required = [...old.dependencies, ...old.devDependencies].map(({ requirement }) => requirement);
  const lines = [...required, ...Object.values(pins).flat()];
  return `# What the old one needs, in the versions that were tested.\n${lines.join("\n")}\n`;
}

function moveOf(tool: Tool, { files }: Templates): DataMove | undefined {
  return files[ownerOf(tool)]?.move;
}
