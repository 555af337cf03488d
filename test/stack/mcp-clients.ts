import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { execa } from "execa";
import { environment } from "./environment.ts";

/** The Inspector, the public conformance suite, and the Node that they need. */
const CLIENTS = [
  "node@22.23.3",
  "@modelcontextprotocol/inspector@2.12.0",
  "@modelcontextprotocol/conformance@0.2.0-alpha.12",
];

/** Installs them into a folder. Gives what runs one of them there. */
export async function installClients(folder: string) {
  const clients = join(folder, "clients");
  await mkdir(clients);
  const options = { cwd: folder, env: environment(), extendEnv: false };
  await execa("npm", ["install", "--prefix", clients, "--no-audit", "--no-fund", ...CLIENTS], options);
  const path = `${join(clients, "node_modules/.bin")}:${process.env["PATH"]}`;
  const env = environment({ PATH: path, HOME: folder, DATA_DIR: join(folder, "data") });
  return (name: string, ...args: string[]) =>
    execa(name, args, { cwd: clients, env, extendEnv: false, reject: false, all: true });
}
