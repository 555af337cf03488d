import { isAlias, isMap, isScalar, type Node, type Pair, parseDocument, type YAMLMap } from "yaml";
import type { ComposeMap } from "./fragments/compose.ts";

/**
 * A compose file as data, its values as they are written, with the comment behind them: so the CLI merges and writes
 * compose files without a YAML library. Throws on what would not come through that.
 */
export function readCompose(source: string): ComposeMap {
  const document = parseDocument(source);
  const [error] = document.errors;
  if (error !== undefined) throw error;
  if (!isMap(document.contents)) throw new Error("a compose file is a map");
  return readMap(document.contents, source);
}

function readMap(map: YAMLMap, source: string): ComposeMap {
  return Object.fromEntries((map.items as Pair<Node, Node>[]).map((pair) => readPair(pair, source)));
}

function readPair({ key, value }: Pair<Node, Node>, source: string): [string, ComposeMap | string] {
  const [start = 0] = key.range ?? [];
  const [line = ""] = source.slice(start).split("\n", 1);
  const name = line.match(/^[\w.-]+(?=:)/)?.[0];
  if (!isScalar(key) || name === undefined) throw new Error(`"${line}" does not begin with a plain key`);
  if (isAlias(value) || value?.anchor !== undefined) throw new Error(`"${line}": anchors and aliases are not merged`);
  if (isMap(value) && !value.flow) return [name, readMap(value, source)];
  const [, end = start] = value?.range ?? [];
  if (end > start + line.length) throw new Error(`"${line}": write a value on the line of its key, a list in brackets`);
  return [name, line.slice(name.length + 1).trim()];
}
