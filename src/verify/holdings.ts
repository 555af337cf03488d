import { readdir, readFile, readlink } from "node:fs/promises";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

// Linux alone: it reads /proc. Where there is none, nothing is found.

/** What a program holds on a machine, and has to give back. */
export interface Holdings {
  processes: Map<number, string>;
  /** Ports that they listen on. */
  ports: Set<number>;
  /** Files in /dev/shm, and ids of System V segments. */
  memory: Set<string>;
}

/**
 * What is held by the processes that have `mark` in their environment, or work below one of the folders.
 * (PostgreSQL's processes overwrite their environment, and work in the folder of their data.)
 */
export async function holdings(mark: string | undefined, folders: string[]): Promise<Holdings> {
  const held: Holdings = { processes: new Map(), ports: new Set(), memory: new Set() };
  const sockets = await listeners();
  for (const pid of await pids()) {
    const isOurs = (mark !== undefined && (await isMarked(pid, mark))) || (await worksBelow(pid, folders));
    if (!isOurs || pid === process.pid) continue;
    const command = (await read(`/proc/${pid}/cmdline`)).replaceAll("\0", " ").trim();
    if (command === "") continue; // a zombie: it holds nothing, and its parent has to collect it
    held.processes.set(pid, command);
    for (const inode of await socketsOf(pid)) {
      const port = sockets.get(inode);
      if (port !== undefined) held.ports.add(port);
    }
    for (const segment of await memoryOf(pid)) held.memory.add(segment);
  }
  return held;
}

/** What is still there of it, as lines to print. */
export async function remains(held: Holdings): Promise<string[]> {
  const alive = await pids();
  const listening = new Set((await listeners()).values());
  const segments = new Set([...(await sharedFiles()), ...(await systemVSegments())]);
  return [
    ...[...held.processes].filter(([pid]) => alive.includes(pid)).map(([pid, command]) => `process ${pid}: ${command}`),
    ...[...held.ports].filter((port) => listening.has(port)).map((port) => `port ${port}`),
    ...[...held.memory].filter((segment) => segments.has(segment)).map((segment) => `shared memory ${segment}`),
  ];
}

export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}

/** Asks until there is an answer. */
export async function until<T>(what: string, seconds: number, probe: () => Promise<T | undefined | false>): Promise<T> {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const found = await probe();
    if (found !== undefined && found !== false) return found;
    if (Date.now() > end) throw new Error(`not within ${seconds} seconds: ${what}`);
    await sleep(50);
  }
}

async function pids(): Promise<number[]> {
  return (await readdir("/proc").catch(() => [])).filter((name) => /^\d+$/.test(name)).map(Number);
}

async function isMarked(pid: number, mark: string): Promise<boolean> {
  return (await read(`/proc/${pid}/environ`)).split("\0").includes(mark);
}

async function worksBelow(pid: number, folders: string[]): Promise<boolean> {
  const place = await readlink(`/proc/${pid}/cwd`).catch(() => "");
  return folders.some((folder) => place === folder || place.startsWith(`${folder}/`));
}

/** The inode of each listening TCP socket → its port. */
async function listeners(): Promise<Map<string, number>> {
  const LISTEN = "0A";
  const tables = [await read("/proc/net/tcp"), await read("/proc/net/tcp6")];
  const rows = tables.flatMap((table) => table.split("\n").map((line) => line.trim().split(/\s+/)));
  return new Map(
    rows
      .filter((row) => row[3] === LISTEN)
      .map(([, local = "", , , , , , , , inode = ""]) => [inode, Number.parseInt(local.split(":")[1] ?? "", 16)]),
  );
}

async function socketsOf(pid: number): Promise<string[]> {
  const files = await readdir(`/proc/${pid}/fd`).catch(() => []);
  const links = await Promise.all(files.map((file) => readlink(`/proc/${pid}/fd/${file}`).catch(() => "")));
  return links.flatMap((link) => link.match(/^socket:\[(\d+)\]$/)?.[1] ?? []);
}

async function memoryOf(pid: number): Promise<string[]> {
  const maps = await read(`/proc/${pid}/maps`);
  const files = [...maps.matchAll(/ (\/dev\/shm\/.+)$/gm)].map(([, path = ""]) => path);
  const segments = [...maps.matchAll(/ (\d+) +\/SYSV/g)].map(([, id = ""]) => `segment ${id}`);
  return [...files.filter((path) => !path.endsWith(" (deleted)")), ...segments];
}

async function sharedFiles(): Promise<string[]> {
  return (await readdir("/dev/shm").catch(() => [])).map((name) => `/dev/shm/${name}`);
}

async function systemVSegments(): Promise<string[]> {
  const [, ...rows] = (await read("/proc/sysvipc/shm")).trim().split("\n");
  return rows.map((row) => `segment ${row.trim().split(/\s+/)[1]}`);
}

function read(path: string): Promise<string> {
  // What has ended meanwhile, or belongs to others, counts as empty.
  return readFile(path, "utf8").catch(() => "");
}
