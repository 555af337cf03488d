// Measures what docs/benchmarks.md shows, and writes it: `npm run bench`. Takes about ten minutes; wants Linux, uv and a
// machine that does nothing else. A part that cannot be measured, for want of a network, says so in its row. Names of
// parts after it measure those alone, and write nothing: `npm run bench -- start ask`.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { cpus, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { execa } from "execa";
import { inSeconds, median, row } from "./figures.js";
import { startModel } from "./model.js";
import { timeInTurn } from "./startup.js";

const ROOT = join(import.meta.dirname, "..");
const CLI = join(ROOT, "bin/create-ai-stack.js");
const RIVALS = ["create-vite@9.3.0", "create-better-fullstack@2.6.7", "node@22.23.3"];
const folder = await mkdtemp(join(tmpdir(), "bench-"));
// A user's Python keeps what it has compiled, and nothing of this shell's is a setting of the projects.
const foreign = /^(CI$|PYTHON|NODE_OPTIONS$|DATABASE_URL$|LLM_|EMBEDDING_|LOGFIRE_|OTEL_)/;
const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !foreign.test(name)));

/** @typedef {Record<string, number>} Seconds */

const parts = {
  start: measureStart,
  packed: measurePacked,
  answer: measureFirstAnswer,
  search: measureSearch,
  ask: measureAsk,
};
const wanted = process.argv.slice(2);

try {
  const rows = [];
  for (const [name, measure] of Object.entries(parts)) {
    if (wanted.length === 0 || wanted.includes(name)) rows.push(...(await part(name, measure)));
  }
  if (wanted.length === 0) await writeFile(join(ROOT, "docs/benchmarks.md"), await page(rows));
} finally {
  await rm(folder, { recursive: true, force: true, maxRetries: 10 });
}

/**
 * @param {string} name
 * @param {() => Promise<string[]>} measure
 */
async function part(name, measure) {
  console.log(`${name} …`);
  try {
    const rows = await measure();
    console.log(rows.join("\n"));
    return rows;
  } catch (error) {
    console.error(error);
    return [row(name, "", /** @type {Error} */ (error))];
  }
}

async function measureStart() {
  const rivals = await mkdtemp(join(folder, "rivals-"));
  const missing = await attempt(async () => {
    await writeFile(join(rivals, "package.json"), "{}");
    await run("npm", ["install", "--no-audit", "--no-fund", ...RIVALS], rivals);
  });
  await run("sync", [], rivals); // what npm has written must not slow down what is measured
  const at = (/** @type {string} */ path) => join(rivals, "node_modules", path);
  const quick = ["--yes", "--no-install", "--no-git"];
  const vite = [at("create-vite/index.js"), "-t", "react-ts", "--no-interactive"];
  const times = await timeInTurn(
    {
      node: () => [process.execPath, "-e", "0"],
      help: () => [process.execPath, CLI, "--help"],
      create: (i) => [process.execPath, CLI, `ours-${i}`, ...quick],
      ...(!missing && {
        viteHelp: () => [process.execPath, at("create-vite/index.js"), "--help"],
        vite: (/** @type {number} */ i) => [process.execPath, vite[0] ?? "", `vite-${i}`, ...vite.slice(1)],
      }),
    },
    { cwd: rivals, env },
  );
  const show = (/** @type {string} */ name) =>
    `${ratio(times, name).toFixed(2)} × (${inSeconds(median(times[name] ?? []))})`;
  const help = ratio(times, "help");
  const create = ratio(times, "create");
  return [
    row("`--help`, × bare `node -e 0`", "1.25 ×", show("help"), help <= 1.25),
    row("`create --yes --no-install --no-git`, × bare node", "1.6 ×", show("create"), create <= 1.6),
    row("the same of create-vite 9.3.0: `--help`", "", missing ?? show("viteHelp")),
    row("the same of create-vite 9.3.0: create", "", missing ?? show("vite")),
    ...(await measureFullstack(rivals, missing)),
  ];
}

/**
 * With a Node of its own, and beside the bare one of that, since create-better-fullstack fails on Node 20.
 * @param {string} rivals
 * @param {Error | undefined} missing
 */
async function measureFullstack(rivals, missing) {
  const what = "create-better-fullstack 2.6.7, on Node 22";
  if (missing) return [row(what, "", missing)];
  const node = join(rivals, "node_modules/node/bin/node");
  const program = join(rivals, "node_modules/create-better-fullstack/dist/cli.mjs");
  const quick = ["--yes", "--no-install", "--no-git"];
  const failure = await attempt(async () => void (await run(node, [program, "their-0", ...quick], rivals)));
  if (failure) return [row(what, "", failure)];
  const times = await timeInTurn(
    {
      node: () => [node, "-e", "0"],
      ourHelp: () => [node, CLI, "--help"],
      ours: (i) => [node, CLI, `ours-22-${i}`, ...quick],
      help: () => [node, program, "--help"],
      create: (i) => [node, program, `their-22-${i}`, ...quick],
    },
    { cwd: rivals, env, runs: 7 },
  );
  const show = (/** @type {string} */ name) =>
    `${ratio(times, name).toFixed(2)} × (${inSeconds(median(times[name] ?? []))})`;
  return [
    row("this package on Node 22: `--help`; create", "", `${show("ourHelp")}; ${show("ours")}`),
    row(`${what}: \`--help\`; create`, "", `${show("help")}; ${show("create")}`),
  ];
}

async function measurePacked() {
  const [{ size }] = JSON.parse(await run("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], ROOT));
  return [row("packed size", "400 kB", `${Math.round(size / 1000)} kB`, size <= 400_000)];
}

async function measureFirstAnswer() {
  /** @type {Seconds[]} */
  const ours = [];
  /** @type {Seconds[]} */
  const floors = [];
  // The first round fills the cache of packages and does not count.
  for (let round = 0; round <= 3; round += 1) {
    const place = await mkdtemp(join(folder, "first-"));
    const first = await firstAnswer(join(place, "my-app"));
    const floor = await measureFloors(join(place, "floors"));
    if (round > 0) {
      ours.push(first);
      floors.push(floor);
    }
    await rm(place, { recursive: true, force: true });
  }
  const parts = medians(ours);
  const least = medians(floors);
  const total = median(ours.map(sum));
  const ratio = median(ours.map((seconds, i) => sum(seconds) / sum(floors[i] ?? {})));
  const shown = (/** @type {Seconds} */ seconds) =>
    Object.entries(seconds)
      .map(([name, value]) => `${name} ${value.toFixed(2)}`)
      .join(", ");
  return [
    row("from command to first answer", "10 s", `${total.toFixed(1)} s`, total <= 10),
    row("its parts, in seconds", "", shown(parts)),
    row("floors, in seconds", "", shown(least)),
    row("first answer, × the floors", "1.3 ×", `${ratio.toFixed(2)} ×`, ratio <= 1.3),
  ];
}

/**
 * The command, and then the question.
 * @param {string} project
 * @returns {Promise<Seconds>}
 */
async function firstAnswer(project) {
  const render = await clock(() =>
    run(process.execPath, [CLI, `${project}-bare`, "--yes", "--no-install", "--no-git"], ROOT),
  );
  const create = await clock(() => run(process.execPath, [CLI, project, "--yes"], ROOT));
  /** @type {Seconds} */
  let parts = {};
  const ask = await clock(async () => {
    parts = JSON.parse(await python(project, "first_answer.py"));
  });
  return { render, "install, git": create - render, ...parts, "interpreter, stop": ask - sum(parts) };
}

/**
 * What nobody can do without, each alone, in a project of its own that has never run.
 * @param {string} project
 * @returns {Promise<Seconds>}
 */
async function measureFloors(project) {
  await run(process.execPath, [CLI, project, "--yes", "--no-install", "--no-git"], ROOT);
  const sync = await clock(() => run("uv", ["sync", "--quiet"], project));
  const imports = await clock(() => run(inVenv(project), ["-c", "import app.__main__, app.main"], project));
  const { initdb } = JSON.parse(await python(project, "initdb.py", join(project, "cluster")));
  return { "uv sync": sync, imports, initdb };
}

async function measureSearch() {
  const project = await createdProject();
  const found = JSON.parse(await python(project, "search.py", join(ROOT, "test/stack/documents")));
  return [
    ["all", "search among 100,000 passages"],
    ["filtered", "the same, by a filter that one in ten passes"],
  ].flatMap(([key = "", what = ""]) => {
    const { search, bare, recall } = found[key];
    const ratio = search.p95_ms / bare.p95_ms;
    return [
      row(`${what}: p95, × bare SQL`, "1.2 ×", `${ratio.toFixed(2)} ×`, ratio <= 1.2),
      row("p50, p95; of bare SQL", "", `${search.p50_ms}, ${search.p95_ms} ms; ${bare.p50_ms}, ${bare.p95_ms} ms`),
      row("recall@10 of its vectors against exact search", "0.95", String(recall), recall >= 0.95),
    ];
  });
}

async function measureAsk() {
  const project = await createdProject();
  const model = await startModel();
  try {
    const rates = JSON.parse(await python(project, "ask.py", join(project, "data/sample"), model.environment));
    const ratio = rates.service / rates["same calls"];
    return [
      row("questions, × a bare workflow with the same calls", "0.8 ×", `${ratio.toFixed(2)} ×`, ratio >= 0.8),
      row(
        "questions a second, 8 at once",
        "",
        `${rates.service}; bare, same calls ${rates["same calls"]}; bare, no calls ${rates["no calls"]}`,
      ),
    ];
  } finally {
    model.stop();
  }
}

async function createdProject() {
  const project = join(await mkdtemp(join(folder, "project-")), "my-app");
  await run(process.execPath, [CLI, project, "--yes", "--no-git"], ROOT);
  return project;
}

/**
 * Runs a script of this folder inside a project.
 * @param {string} project
 * @param {string} script
 * @param {string} [argument]
 * @param {Record<string, string>} [more]
 */
async function python(project, script, argument, more = {}) {
  const args = [join(import.meta.dirname, script), ...(argument === undefined ? [] : [argument])];
  const printed = await run(inVenv(project), args, project, { ...more, PYTHONPATH: project });
  return printed.trim().split("\n").at(-1) ?? "";
}

function inVenv(/** @type {string} */ project) {
  return join(project, ".venv/bin/python");
}

/**
 * @param {string} command
 * @param {string[]} args
 * @param {string} cwd
 * @param {Record<string, string>} [more]
 */
async function run(command, args, cwd, more = {}) {
  const { stdout } = await execa(command, args, { cwd, env: { ...env, ...more }, extendEnv: false, stdin: "ignore" });
  return stdout;
}

/**
 * To bare node, run by run, so that a machine that slows down does not count.
 * @param {Record<string, number[]>} times
 * @param {string} name
 */
function ratio(times, name) {
  return median((times[name] ?? []).map((seconds, run) => seconds / (times["node"]?.[run] ?? Number.NaN)));
}

/** @param {() => Promise<unknown>} work */
async function attempt(work) {
  try {
    await work();
    return undefined;
  } catch (error) {
    return /** @type {Error} */ (error);
  }
}

/** @param {() => Promise<unknown>} work */
async function clock(work) {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}

/** @param {Seconds} seconds */
function sum(seconds) {
  return Object.values(seconds).reduce((total, value) => total + value, 0);
}

/** @param {Seconds[]} runs */
function medians(runs) {
  const names = Object.keys(runs[0] ?? {});
  return Object.fromEntries(names.map((name) => [name, median(runs.map((seconds) => seconds[name] ?? 0))]));
}

/** @param {string[]} rows */
async function page(rows) {
  const uv = await run("uv", ["--version"], ROOT);
  const commit = await run("git", ["rev-parse", "--short", "HEAD"], ROOT);
  const machine = `${cpus().length} × ${cpus()[0]?.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux`;
  return `# Benchmarks

Written by \`npm run bench\`: one run, on one machine. Compare ratios; seconds are this machine's.

${machine}. Node ${process.versions.node}, ${uv}, commit ${commit}, ${new Date().toISOString().slice(0, 10)}.

| What | To reach | Measured | Reached |
|---|---|---|---|
${rows.join("\n")}

${await readFile(join(import.meta.dirname, "methods.md"), "utf8")}`;
}
