import { access } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { type Browser, chromium, type LaunchOptions } from "playwright-core";

export async function openBrowser(options: LaunchOptions = {}): Promise<Browser> {
  return chromium.launch({ executablePath: await findChromium(), args: ARGUMENTS, ...options });
}

const ARGUMENTS = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

async function findChromium(): Promise<string> {
  const names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
  const paths = (process.env["PATH"] ?? "")
    .split(delimiter)
    .flatMap((folder) => names.map((name) => join(folder, name)));
  for (const path of [process.env["CHROMIUM_PATH"], ...paths]) {
    if (
      path &&
      (await access(path)
        .then(() => true)
        .catch(() => false))
    )
      return path;
  }
  throw new Error("There is no Chromium: install the package `chromium`, or set CHROMIUM_PATH to its program.");
}
