import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { minVersion, satisfies } from "semver";
import type { Dependency, Hold } from "./dependency.ts";
import { ask } from "./registry.ts";

/** What is read here of package.json. */
export interface Manifest {
  engines: { node: string };
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
  /** A comment, as npm has it: package → why its pin stays. */
  "//"?: Record<string, string>;
}

/** What is read here of package-lock.json. */
export interface Lock {
  packages: Record<string, Package>;
}

interface Package {
  version: string;
  optional?: boolean;
  engines?: { node?: string };
  dependencies?: Record<string, string>;
  peerDependencies?: Record<string, string>;
}

export async function dependenciesOfGenerator(root: string): Promise<Dependency[]> {
  const read = async (file: string) => JSON.parse(await readFile(join(root, file), "utf8"));
  const [manifest, lock]: [Manifest, Lock] = [await read("package.json"), await read("package-lock.json")];
  return compare(manifest, lock, await newestOf(packagesOf(lock).map(({ name }) => name)));
}

/** `latest` has the newest release of each package, as a lock file. */
export function compare(manifest: Manifest, lock: Lock, latest: Lock): Dependency[] {
  const packages = packagesOf(lock);
  const required = { ...manifest.dependencies, ...manifest.devDependencies };
  return packages.map(({ path, name, version }) => {
    const newest = latest.packages[`${MODULES}${name}`];
    if (newest === undefined) throw new Error(`npm gave no version of ${name}`);
    const direct = path === `${MODULES}${name}` && name in required;
    const where = direct ? "package.json" : "package-lock.json";
    const hold = version === newest.version ? undefined : holdOf({ name, newest, direct }, manifest, packages);
    return { name, used: version, newest: newest.version, direct, where, hold };
  });
}

interface Held {
  name: string;
  newest: Package;
  direct: boolean;
}

type Installed = Package & { path: string; name: string };

const MODULES = "node_modules/";

/** The packages that are installed on every system. */
function packagesOf({ packages }: Lock): Installed[] {
  return Object.entries(packages)
    .filter(([path, { optional }]) => path !== "" && optional !== true)
    .map(([path, entry]) => ({ ...entry, path, name: path.slice(path.lastIndexOf(MODULES) + MODULES.length) }));
}

function holdOf({ name, newest, direct }: Held, manifest: Manifest, packages: Installed[]): Hold | undefined {
  const why = manifest["//"]?.[name];
  if (why !== undefined) return { text: `a pin of our own: ${why}`, explained: true };
  const ours = minVersion(manifest.engines.node)?.version ?? "";
  const node = newest.engines?.node;
  if (node !== undefined && !satisfies(ours, node)) {
    return { text: `Node ${ours}, which is supported here: it needs ${node}`, explained: true };
  }
  const holders = new Map<string, string[]>();
  for (const { name: holder, version, dependencies, peerDependencies } of packages) {
    // Of a package that is required here, another one gets a copy of its own, but for its peers.
    const range = peerDependencies?.[name] ?? (direct ? undefined : dependencies?.[name]);
    if (range === undefined || satisfies(newest.version, range)) continue;
    holders.set(range, [...(holders.get(range) ?? []), `${holder} ${version}`]);
  }
  if (holders.size === 0) return undefined;
  const texts = [...holders].map(
    ([range, names]) => `${names.join(", ")} ${names.length > 1 ? "need" : "needs"} ${range}`,
  );
  return { text: texts.join("; "), explained: true };
}

/** Asked all at once: as what a package that requires them would have locked. */
async function newestOf(names: string[]): Promise<Lock> {
  const folder = await mkdtemp(join(tmpdir(), "freshness-"));
  try {
    const dependencies = Object.fromEntries(names.map((name) => [name, "latest"]));
    await writeFile(join(folder, "package.json"), JSON.stringify({ private: true, dependencies }));
    // They need not fit together.
    const options = ["--package-lock-only", "--legacy-peer-deps", "--ignore-scripts", "--no-audit", "--no-fund"];
    await ask("npm", ["install", ...options], { cwd: folder });
    return JSON.parse(await readFile(join(folder, "package-lock.json"), "utf8"));
  } finally {
    await rm(folder, { recursive: true });
  }
}
