import { mkdtempSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as tls from "node:tls";

type Environment = Readonly<Record<string, string | undefined>>;

interface Setting {
  name: string;
  /** The variables that set it already. */
  own: string[];
  /** Where pip and npm have it, the first that is set. */
  from: string[];
}

const SETTINGS: Setting[] = [
  { name: "UV_DEFAULT_INDEX", own: ["UV_INDEX_URL"], from: ["PIP_INDEX_URL"] },
  { name: "UV_INDEX", own: ["UV_EXTRA_INDEX_URL"], from: ["PIP_EXTRA_INDEX_URL"] },
  { name: "UV_INSECURE_HOST", own: [], from: ["PIP_TRUSTED_HOST"] },
  {
    name: "HTTPS_PROXY",
    own: ["https_proxy", "ALL_PROXY", "all_proxy"],
    from: ["PIP_PROXY", "npm_config_https_proxy", "npm_config_proxy"],
  },
  { name: "HTTP_PROXY", own: ["http_proxy", "ALL_PROXY", "all_proxy"], from: ["PIP_PROXY", "npm_config_proxy"] },
  { name: "NO_PROXY", own: ["no_proxy"], from: ["npm_config_noproxy"] },
];

const AUTHORITIES = ["PIP_CERT", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "npm_config_cafile", "NODE_EXTRA_CA_CERTS"];
const OWN_AUTHORITIES = ["SSL_CERT_FILE", "SSL_CERT_DIR", "UV_SYSTEM_CERTS", "UV_NATIVE_TLS"];

/**
 * pip's and npm's settings as uv's variables, where uv's own are not set: uv reads neither.
 * `pipConfig` is what `pip config list` prints.
 */
export function deriveUvSettings(environment: Environment, pipConfig = "") {
  const known: Environment = { ...readPipConfig(pipConfig), ...environment };
  const lookUp = (name: string) => (/^(?:null|false)?$/.test(known[name] ?? "") ? undefined : known[name]);
  const variables: Record<string, string> = {};
  for (const { name, own, from } of SETTINGS) {
    const value = from.map(lookUp).find((found) => found !== undefined);
    if (value !== undefined && [name, ...own].every((taken) => !known[taken])) variables[name] = value.trim();
  }
  // pip takes the best version of all indexes, uv by itself the first index that has the package.
  if (variables["UV_INDEX"] !== undefined && !known["UV_INDEX_STRATEGY"]) {
    variables["UV_INDEX_STRATEGY"] = "unsafe-best-match";
  }
  const files = OWN_AUTHORITIES.some((name) => known[name]) ? [] : AUTHORITIES.map(lookUp);
  return { variables, authorities: [...new Set(files.filter((file) => file !== undefined))] };
}

/**
 * One file of these authorities and those that are trusted anyway, in a folder to be removed. uv trusts what
 * SSL_CERT_FILE has and nothing else, while a company's authority is often meant as one more.
 */
export function bundleAuthorities(files: string[]): { file: string; folder: string } | undefined {
  const contents = files.flatMap(readOrNothing);
  if (contents.length === 0) return undefined;
  const system = (tls as { getCACertificates?: (store: "system") => string[] }).getCACertificates?.("system") ?? [];
  const folder = mkdtempSync(join(tmpdir(), "create-ai-stack-"));
  const file = join(folder, "authorities.pem");
  writeFileSync(file, [...tls.rootCertificates, ...system, ...contents].join("\n"));
  return { file, folder };
}

function readOrNothing(file: string): string[] {
  try {
    return [readFileSync(file, "utf8")];
  } catch {
    // Like Node and npm, which only warn of such a file.
    return [];
  }
}

/** `pip config list` → the variables that would set the same. Of a setting that is there twice, `install` has the say. */
function readPipConfig(list: string): Record<string, string> {
  const lines = [...list.matchAll(/^(global|install)\.([a-z-]+)=(["'])(.*)\3\r?$/gm)].sort();
  return Object.fromEntries(
    lines.map(([, , key = "", , value = ""]) => {
      const text = value.replaceAll("\\n", " ").replaceAll(/\\(.)/g, "$1");
      return [`PIP_${key.toUpperCase().replaceAll("-", "_")}`, text.trim()];
    }),
  );
}
