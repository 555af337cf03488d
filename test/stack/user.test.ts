import {
  chmod,
  chown,
  copyFile,
  cp,
  lchown,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  realpath,
  rm,
  symlink,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { execa } from "execa";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { parse } from "yaml";
import { findOnPath } from "../../src/machine.ts";
import { until } from "../../src/verify/holdings.ts";
import { ModelServer } from "../../src/verify/model-server.ts";
import { build } from "./dockerfile.ts";
import { environment } from "./environment.ts";
import { script } from "./script.ts";
import { Service } from "./service.ts";

// The main path once more, without uv, as an ordinary user: started by root, as `nobody`; else as who we are.
const isRoot = process.getuid?.() === 0;
const NOBODY = 65534;
const uid = isRoot ? NOBODY : undefined;
const identity = uid === undefined ? {} : { uid, gid: uid };

let home: string;
let env: Record<string, string>;
let model: ModelServer;

beforeAll(async () => {
  home = await realpath(await mkdtemp(join(tmpdir(), "user-")));
  await cp(join(inject("place"), "node_modules"), join(home, "node_modules"), { recursive: true });
  const bin = join(home, "bin");
  await mkdir(bin);
  await copyFile(process.execPath, join(bin, "node"));
  for (const name of ["git", "sh"]) await symlink(findOnPath(name) ?? "", join(bin, name));
  await own(home);
  await symlink(await findPython(), join(bin, "python3"));
  env = environment({ HOME: home, PATH: bin, UV_CACHE_DIR: undefined, XDG_CACHE_HOME: undefined, TMPDIR: undefined });
  model = await ModelServer.start(script);
});

afterAll(async () => {
  await model?.stop();
  await rm(home, { recursive: true, force: true });
});

test("created, started, killed, resumed and stopped by what is printed", async () => {
  const steps = nextSteps(await create("my-app"));
  expect(steps).toEqual(["cd my-app", ".venv/bin/uv run my-app dev"]);
  const data = join(home, "my-app/.data");
  const options = {
    project: home,
    data,
    command: ["sh", "-c", steps.join("\n")],
    env: { ...env, ...model.env, DATA_DIR: undefined },
    ...(uid === undefined ? {} : { uid }),
  };
  const first = await Service.start(options);
  const question = "How long are invoices kept? (by a user)";
  model.hold(2);
  let id: string;
  try {
    id = (await first.ask(question, 0)).id;
    await until("the second turn", 30, async () => model.counts(question).length === 2);
    first.signalGroup("SIGKILL");
    await first.ended;
  } finally {
    await first.end();
  }

  model.release();
  const second = await Service.start(options);
  try {
    expect(await second.run(id, 60)).toMatchObject({
      status: "succeeded",
      result: { citations: [{ source: "sample/billing.md" }] },
    });
    expect(model.counts(question)).toEqual([1, 2, 1]);
    const held = await second.holdings();
    expect([...held.processes.values()].some((command) => command.includes("postgres"))).toBe(true);
    second.signalGroup("SIGINT");
    expect(await second.left(held), second.output).toEqual([]);
  } finally {
    await second.end();
  }
});

test("created with --no-install, the steps that are printed install it", async () => {
  const steps = nextSteps(await create("later", "--no-install"));
  expect(steps).toHaveLength(5);
  const all = [...steps.slice(0, -1), `${steps.at(-1)?.replace(/ dev$/, "")} ask "How long are invoices kept?"`];
  const { exitCode, stdout, stderr } = await execa("sh", ["-ec", all.join("\n")], {
    cwd: home,
    env,
    extendEnv: false,
    reject: false,
    ...identity,
  });
  expect(exitCode, stderr).toBe(0);
  expect(stdout).toContain("sample/billing.md");
});

test("the Dockerfile, step by step in an empty folder: app and worker start, are healthy and answer", async () => {
  const place = join(home, "image");
  const context = join(home, "my-app");
  await mkdir(place);
  await writeFile(join(context, ".env"), "LLM_API_KEY=secret\n");
  await own(place);
  const base = { env, python: join(home, "bin/python3"), cache: join(home, ".cache/uv") };
  const image = await build({ context, place, filesOf, ...base, identity });
  expect(await readdir(image.workdir)).toEqual([
    ...[".venv", "alembic.ini", "app", "embedded", "migrations", "pyproject.toml", "uv.lock"],
  ]);
  expect(image.user).toMatch(/^[1-9]\d*:[1-9]\d*$/);

  // As compose.yaml starts them, but for what is a container's own: its network, and the database in another.
  const { app, worker } = parse(await readFile(join(context, "compose.yaml"), "utf8")).services;
  const { WORKER_CONCURRENCY } = app.environment;
  const settings = { ...image.env, HOST: "127.0.0.1" };
  const [program = "", ...entrypoint] = image.entrypoint;
  const inside = { cwd: image.workdir, extendEnv: false, reject: false, ...identity } as const;
  const service = await Service.start({
    project: image.workdir,
    data: image.env["DATA_DIR"] ?? "",
    command: [program, ...entrypoint, ...image.command],
    env: { ...settings, WORKER_CONCURRENCY },
    ...(uid === undefined ? {} : { uid }),
  });
  const check = () => {
    const [python = "", ...args] = image.health;
    return execa(python, args, { ...inside, env: { ...settings, PORT: new URL(service.url).port } });
  };
  const working = execa(program, [...entrypoint, ...worker.command], { ...inside, env: settings });
  try {
    expect(await check()).toMatchObject({ exitCode: 0 });
    expect(await service.ask("Who keeps the invoices?")).toMatchObject({ status: "succeeded" });
    const held = await service.holdings();
    service.signal("SIGTERM"); // as `docker stop` does
    working.kill("SIGTERM");
    expect(await working).toMatchObject({ exitCode: 0 });
    expect(await service.left(held), service.output).toEqual([]);
    expect((await check()).exitCode).not.toBe(0);
  } finally {
    working.kill("SIGKILL");
    await service.end();
    await execa("chmod", ["-R", "u+w", place], identity);
  }
});

/** uv's image: uv of that version, from the index. */
async function filesOf(image: string): Promise<string> {
  const version = image.replace(/^ghcr\.io\/astral-sh\/uv:/, "");
  const find = ["--from", `uv==${version}`, "python", "-c", "import uv; print(uv.find_uv_bin())"];
  const { stdout } = await execa("uvx", find, { env: environment(), extendEnv: false });
  const folder = join(home, "uv");
  await mkdir(folder);
  await copyFile(stdout, join(folder, "uv"));
  await own(folder);
  return folder;
}

async function create(name: string, ...flags: string[]): Promise<string> {
  const command = join(home, "node_modules/create-ai-stack/bin/create-ai-stack.js");
  const { stdout } = await execa(join(home, "bin/node"), [command, name, "--yes", ...flags], {
    cwd: home,
    env,
    extendEnv: false,
    ...identity,
  });
  return stdout;
}

function nextSteps(printed: string): string[] {
  const [, steps = ""] = printed.match(/^Next:\n((?: {2}.+\n)+)/m) ?? [];
  return steps.trim().split(/\n */);
}

/** A Python with venv that this user may run: not one in another user's home. */
async function findPython(): Promise<string> {
  const folders = ["/usr/bin", ...(process.env["PATH"] ?? "").split(":")];
  for (const python of folders.flatMap((folder) => [join(folder, "python3"), join(folder, "python")])) {
    const probe = "import ensurepip, sys, venv; assert sys.version_info >= (3, 11); print(sys.executable)";
    const options = { reject: false, cwd: home, env: { HOME: home }, extendEnv: false, ...identity } as const;
    const { exitCode, stdout } = await execa(python, ["-c", probe], options);
    if (exitCode === 0) return stdout;
  }
  throw new Error("no Python 3.11 or newer with venv that an ordinary user may run");
}

async function own(folder: string): Promise<void> {
  await chmod(folder, 0o755);
  if (uid === undefined) return;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    await lchown(join(entry.parentPath, entry.name), uid, uid);
  }
  await chown(folder, uid, uid);
}
