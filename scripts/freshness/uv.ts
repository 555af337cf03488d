import { readPins } from "../../src/fragments/constraints.ts";
import { ask, RegistryError } from "./registry.ts";

/** Package → its pins: several where they differ by environment marker. */
export type Pins = Map<string, string[]>;

/** The newest versions that fit together, or the error that uv gives where none do. */
export type Resolve = (requirements: string[], options?: string[]) => Promise<Pins>;

export const resolve: Resolve = async (requirements, options = ["--python-version", OLDEST_PYTHON]) => {
  const args = ["pip", "compile", "-", "--quiet", "--universal", "--no-header", "--no-annotate", ...options];
  const output = await ask("uv", args, { input: requirements.join("\n"), env: { UV_PYTHON_DOWNLOADS: "never" } });
  return readPins(output, "uv pip compile");
};

/** Package → its newest release, of those that come after the version given. */
export async function newestOf(
  versions: [name: string, version: string][],
  ask: Resolve,
): Promise<Map<string, string>> {
  // As a lower bound, a version that is a pre-release lets others of its kind count too.
  const requirements = versions.map(([name, version]) => `${name}>=${version}`);
  const pins = await ask(requirements, ["--no-deps", "--python-version", NEWEST_PYTHON]);
  return new Map([...pins].map(([name, own]) => [name, highest(own)]));
}

/** What uv says of requirements that do not fit together; nothing, where they do. */
export async function conflictOf(requirements: string[], ask: Resolve): Promise<string | undefined> {
  try {
    await ask(requirements);
    return undefined;
  } catch (error) {
    if (error instanceof RegistryError && error.details.includes("Because ")) return error.details;
    throw error;
  }
}

/** The version of the pin that has the highest. */
export function highest(pins: string[]): string {
  const versions = pins.map((pin) => pin.match(/==\s*([^\s;]+)/)?.[1] ?? "");
  return versions.sort((a, b) => a.localeCompare(b, "en", { numeric: true })).at(-1) ?? "";
}

const OLDEST_PYTHON = "3.11";
const NEWEST_PYTHON = "3.14";
