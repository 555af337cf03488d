import { readPins } from "./constraints.ts";

/** pyproject.toml with the tested versions as uv's constraints. */
export function pinUv(pyproject: string, constraints: string): string {
  const pins = [...readPins(constraints, "constraints.txt").values()].flat();
  const lines = pins.map((pin) => `  ${JSON.stringify(pin)},\n`).join("");
  const key = `constraint-dependencies = [\n${lines}]\n`;
  if (/^\[tool\.uv\]$/m.test(pyproject)) return pyproject.replace(/^\[tool\.uv\]\n/m, (table) => `${table}${key}`);
  return `${pyproject.trimEnd()}\n\n[tool.uv]\n${key}`;
}
