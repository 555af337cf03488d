// Makes the pictures of the README: it packs this package and installs it, types what a newcomer would type into real
// terminals, asks on the page of the service that comes of it, and takes pictures of all that.
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { importTypeScript } from "./import-typescript.js";
import { Recording } from "./pictures/recording.js";
import { Terminal } from "./pictures/terminal.js";

/** @typedef {import("playwright-core").Page} Page */

const ROOT = join(import.meta.dirname, "..");
const IMAGES = join(ROOT, "docs/images");
const PARTS = join(import.meta.dirname, "pictures");
const SIZE = { width: 1060, height: 700 };
const COLUMNS = 118;
const FIRST = { columns: COLUMNS, rows: 33, style: "inset: 14px" };
const SECOND = { columns: COLUMNS, rows: 9, style: "inset: auto 14px 14px; height: 222px" };
const BROWSER = "inset: 50px 14px 14px";
const ASKED_IN_TERMINAL = "How long are invoices kept?";
const ASKED_ON_PAGE = "Who is paged for severity 1?";

/** @type {typeof import("../test/stack/browser.ts")} */
const { openBrowser } = await importTypeScript("test/stack/browser.ts");
/** @type {typeof import("../test/stack/environment.ts")} */
const { environment } = await importTypeScript("test/stack/environment.ts");
/** @type {typeof import("../src/verify/holdings.ts")} */
const { freePort } = await importTypeScript("src/verify/holdings.ts");

await execa("ffmpeg", ["-version"]).catch(() => {
  throw new Error("The recording needs ffmpeg: install the package `ffmpeg`.");
});
process.env["FONTCONFIG_FILE"] = join(PARTS, "fonts.conf"); // for the browser
const browser = await openBrowser({ handleSIGINT: false, handleSIGTERM: false });
const folder = await mkdtemp(join(tmpdir(), "pictures-"));
const env = environment({ CI: undefined, PORT: String(await freePort()), npm_config_update_notifier: "false" });
const url = `http://127.0.0.1:${env["PORT"]}`;
/** @type {Terminal[]} */
const terminals = [];
const interrupted = new Promise((_, reject) => {
  for (const signal of ["SIGINT", "SIGTERM"])
    process.once(signal, () => reject(new Error(`It was ended by ${signal}.`)));
});

try {
  await Promise.race([makePictures(), interrupted]);
} finally {
  await Promise.all(terminals.map((terminal) => terminal.end()));
  await browser.close();
  await rm(folder, { recursive: true, force: true, maxRetries: 10 });
}

async function makePictures() {
  await mkdir(IMAGES, { recursive: true });
  const home = await installPackage();
  const stage = await openStage();
  const first = await openTerminal(stage, "first", home, FIRST);
  await first.shows();
  const recording = new Recording(stage);
  await createProject(first, recording);
  await askThere(first, recording);
  const shown = first.output;
  await askOnPage(stage, first, recording);
  await lookAtRuns(await openTerminal(stage, "second", join(home, "my-app"), SECOND), recording);
  await recording.stop();
  await takeTerminal(shown);
  await takePage(stage);
  const frames = join(folder, "frames");
  await mkdir(frames);
  const seconds = await recording.save(frames, join(IMAGES, "first-five-minutes.gif"));
  console.log(`first-five-minutes.gif plays ${seconds.toFixed(0)} s`);
}

/** What npm would put onto a newcomer's machine, above the folder that the terminals start in. */
async function installPackage() {
  const packed = await execa("npm", ["pack", "--silent", "--pack-destination", folder], { cwd: ROOT });
  const tarball = join(folder, packed.stdout.trim().split("\n").at(-1) ?? "");
  await execa("npm", ["install", "--silent", "--no-package-lock", "--prefix", folder, tarball], { cwd: folder, env });
  const home = join(folder, "home");
  await mkdir(home);
  return home;
}

/** @param {Terminal} terminal @param {Recording} recording */
async function createProject(terminal, recording) {
  await sleep(1000);
  await terminal.type("npx create-ai-stack my-app");
  for (const question of ["database?", "API layer?", "workflow engine?", "observability tool?"]) {
    await recording.shorten(terminal.shows(question));
    await sleep(1300);
    terminal.press("\r");
  }
  await recording.shorten(terminal.shows(), 2);
  await sleep(2500);
}

/** @param {Terminal} terminal @param {Recording} recording */
async function askThere(terminal, recording) {
  await terminal.type("cd my-app");
  await terminal.shows();
  await terminal.type(`uv run my-app ask "${ASKED_IN_TERMINAL}"`);
  await recording.shorten(terminal.shows());
  await sleep(3500);
}

/** @param {Page} stage @param {Terminal} terminal @param {Recording} recording */
async function askOnPage(stage, terminal, recording) {
  await terminal.type("uv run my-app dev");
  await recording.shorten(terminal.shows("Ready at"));
  await sleep(1500);
  await stage.evaluate(`openBrowser("${url}", "${BROWSER}")`);
  const page = stage.frameLocator("iframe");
  await page.getByRole("button", { name: ASKED_IN_TERMINAL }).waitFor();
  await sleep(1500);
  await page.getByLabel("Your question").pressSequentially(ASKED_ON_PAGE, { delay: 60 });
  await sleep(300);
  await page.getByRole("button", { name: "Ask" }).click();
  await page.getByRole("group", { name: "Sources" }).getByRole("button").first().waitFor();
  await sleep(2000);
  await page.getByText("Steps", { exact: true }).click();
  await sleep(2500);
  await page.getByRole("button", { name: /^1\. / }).click();
  await page.locator("mark").waitFor();
  await sleep(3500);
  await page.getByRole("button", { name: "Close" }).click();
  await sleep(1000);
}

/** @param {Terminal} terminal @param {Recording} recording */
async function lookAtRuns(terminal, recording) {
  await terminal.shows();
  await sleep(500);
  await terminal.type("uv run my-app runs");
  await recording.shorten(terminal.shows());
}

/**
 * @param {Page} stage
 * @param {string} name
 * @param {string} cwd
 * @param {typeof FIRST} options
 */
async function openTerminal(stage, name, cwd, { columns, rows, style }) {
  await stage.evaluate(`openTerminal("${name}", ${JSON.stringify({ cols: columns, rows, style })})`);
  const show = (/** @type {string} */ text) => stage.evaluate(`write("${name}", ${JSON.stringify(text)})`);
  const terminal = new Terminal({ cwd, env, columns, rows }, (text) => void show(text).catch(() => {}));
  terminals.push(terminal);
  return terminal;
}

/** @param {number} [height] @param {number} [scale] */
async function openStage(height = SIZE.height, scale = 1) {
  const viewport = { width: SIZE.width, height };
  const stage = await browser.newPage({ viewport, deviceScaleFactor: scale, colorScheme: "light" });
  // The stage has the service's origin, as its page works in no frame of another's; and in none at all by its policy.
  await stage.route(`${url}/stage`, (route) => route.fulfill({ path: join(PARTS, "stage.html") }));
  await stage.route(`${url}/`, async (route) => {
    const response = await route.fetch();
    const { "content-security-policy": _, ...headers } = response.headers();
    await route.fulfill({ response, headers });
  });
  await stage.goto(`${url}/stage`);
  await stage.addStyleTag({ path: fileURLToPath(import.meta.resolve("@xterm/xterm/css/xterm.css")) });
  await stage.addScriptTag({ path: fileURLToPath(import.meta.resolve("@xterm/xterm")) });
  return stage;
}

/**
 * All that a terminal has shown so far, sharper than in the recording.
 * @param {string} output
 */
async function takeTerminal(output) {
  const stage = await openStage(2000, 1.3);
  await stage.evaluate(`openTerminal("all", { cols: ${COLUMNS}, rows: 90, style: "inset: 0 0 auto" })`);
  await stage.evaluate(`write("all", ${JSON.stringify(output)}).then(() => fitRows("all"))`);
  await stage.locator(".window").screenshot({ path: join(IMAGES, "terminal.png") });
  await stage.close();
}

/** The conversation of the recording, at its own address. */
async function takePage(/** @type {Page} */ stage) {
  const page = await browser.newPage({ viewport: SIZE, deviceScaleFactor: 1.3, colorScheme: "light" });
  await page.goto(stage.frames().at(-1)?.url() ?? "");
  await page.getByRole("group", { name: "Sources" }).getByRole("button").first().waitFor();
  await page.getByText("Steps", { exact: true }).click();
  await page.mouse.move(0, 0);
  await page.screenshot({ path: join(IMAGES, "page.png"), fullPage: true });
  await page.close();
}
