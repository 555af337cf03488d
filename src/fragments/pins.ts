import { readPins } from "./constraints.ts";

/** pyproject.toml with the tested versions as uv's constraints. */
export function pinUv(pyproject: string, constraints: string): string {
  const key = keyOf(constraints);
  if (/^\[tool\.uv\]$/m.test(pyproject)) return pyproject.replace(/^\[tool\.uv\]\n/m, (table) => `${table}${key}`);
  return `${pyproject.trimEnd()}\n\n[tool.uv]\n${key}`;
}

/** pyproject.toml without what `pinUv` wrote; undefined where it did not. */
export function unpinUv(pyproject: string, constraints: string): string | undefined {
  const key = keyOf(constraints);
  if (!pyproject.includes(key)) return undefined;
  const rest = pyproject.replace(`\n\n[tool.uv]\n${key}`, "\n");
  return rest === pyproject ? pyproject.replace(key, "") : rest;
}

function keyOf(constraints: string): string {
  const pins = [...readPins(constraints, "constraints.txt").values()].flat();
  const lines = pins.map((pin) => `  ${JSON.stringify(pin)},\n`).join("");
  return `constraint-dependencies = [\n${lines}]\n`;
}
