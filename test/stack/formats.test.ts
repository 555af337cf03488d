import { readdir, readFile, rm } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { until } from "../../src/verify/holdings.ts";
import { environment } from "./environment.ts";
import { command, type Document, makeFolder, type Run, Service } from "./service.ts";

const project = inject("project");
const GOOD = ["cafe.htm", "entity.docx", "manual.pdf", "pets.html", "travel.docx"];
/** What is wrong with each file, in words that its reader can act on. */
const BAD: Record<string, RegExp> = {
  "binary.md": /a binary file, not text/,
  "blank.md": /no text in it/,
  "bomb.pdf": /no text found|too much memory|longer than CONVERSION_SECONDS/,
  "deep.html": /no text found in it/,
  "empty.pdf": /no text in it/,
  "encrypted.pdf": /encrypted; save it without a password/,
  "endless.pdf": /longer than CONVERSION_SECONDS/,
  "half.docx": /damaged, or not what its suffix says/,
  "many.docx": /unpacks to far more than its size/,
  "music.mp3": /\.mp3 is not supported, only \.md, .*\.docx/,
  "picture.pdf": /not a \.pdf file/,
  "scan.pdf": /a scan needs text recognition/,
  "script.html": /no text found in it/,
  "word.html": /a binary file, not text/,
  "zeros.docx": /unpacks to far more than its size/,
};

let folder: string;
let data: string;
let temporary: string;
let service: Service;
let outside: Server;
const fetched: (string | undefined)[] = [];

beforeAll(async () => {
  [folder, data, temporary] = await Promise.all([makeFolder("files-"), makeFolder("data-"), makeFolder("tmp-")]);
  outside = createServer(({ url }, response) => {
    fetched.push(url);
    response.end("fetched");
  });
  await new Promise<void>((resolve) => outside.listen(0, "127.0.0.1", resolve));
  const address = `http://127.0.0.1:${(outside.address() as AddressInfo).port}`;
  const libraries = ["python-docx", "reportlab", "pypdf", "cryptography"].flatMap((name) => ["--with", name]);
  const script = join(import.meta.dirname, "make-files.py");
  const options = { env: environment(), extendEnv: false };
  await execa("uv", ["run", "--no-project", ...libraries, script, folder, address], options);
  const env = { CONVERSION_SECONDS: "10", DRAIN_SECONDS: "1", TMPDIR: temporary };
  service = await Service.start({ project, data, env, command: ["uv", "run", "my-app", "serve"] });
}, 180_000);

afterAll(async () => {
  await service?.end();
  outside?.close();
  await Promise.all([folder, data, temporary].map((path) => rm(path, { recursive: true, force: true })));
});

const sources = async () => (await service.call<Document[]>("GET", "/documents")).map(({ source }) => source);

async function put(name: string): Promise<Response> {
  const kind = (await readdir(join(folder, "good"))).includes(name) ? "good" : "bad";
  const body = await readFile(join(folder, kind, name));
  return fetch(`${service.url}/documents/${name}?wait=120`, { method: "PUT", body });
}

/** Processes that read a file. */
async function readers(): Promise<string[]> {
  return [...(await service.holdings()).processes.values()].filter((line) => line.includes("formats.py"));
}

describe("over the API", () => {
  test("each format is taken in, and answers with its own words, below its headings", async () => {
    for (const name of GOOD) expect((await put(name)).status, name).toBe(200);
    expect(await sources()).toEqual(GOOD);
    const expected: [question: string, source: string, heading: string, words: string][] = [
      [
        "What may a night in a hotel cost?",
        "travel.docx",
        "Travel > Hotels",
        "A night in a hotel may cost up to 140 euros.",
      ],
      [
        "How long does the warranty of the machine last?",
        "manual.pdf",
        "Manual",
        "The warranty of the machine lasts for 42 months.",
      ],
      [
        "When may dogs come to the office?",
        "pets.html",
        "Pets at work > Days",
        "Dogs may come to the office on Fridays, and café cats never.",
      ],
      ["When does the café on the ground floor open?", "cafe.htm", "", "The café on the ground floor opens at eleven."],
    ];
    for (const [question, source, heading, words] of expected) {
      const { citations, text } = (await service.ask(question)).result;
      const found = citations.filter((citation) => citation.source === source && citation.quote.includes(words));
      expect(
        found.map((citation) => citation.heading),
        `${question} ${text}`,
      ).toContain(heading);
      expect(text).not.toMatch(/Tracked|color: red|Start of the site/);
    }
  }, 180_000);

  test("what cannot be read is refused with the reason, and leaves nothing behind", async () => {
    const before = await sources();
    const refused = await Promise.all(
      Object.entries(BAD).map(async ([name, reason]) => {
        const response = await put(name);
        const { detail } = (await response.json()) as { detail: string };
        expect([name, response.status]).toEqual([name, 422]);
        expect(detail).toMatch(reason);
        expect(detail).toContain(name);
        expect(await service.isReady(), name).toBe(true);
        return name;
      }),
    );
    expect(refused.sort()).toEqual((await readdir(join(folder, "bad"))).sort());
    expect(await sources()).toEqual(before);
    expect(await readers()).toEqual([]);
    expect((await readdir(temporary)).filter((name) => !name.startsWith("uv-"))).toEqual([]);
    expect(fetched).toEqual([]);
  }, 180_000);

  test("a run that is cancelled ends the reading of its file", async () => {
    const body = await readFile(join(folder, "bad/endless.pdf"));
    const started = await fetch(`${service.url}/documents/again.pdf?wait=0`, { method: "PUT", body });
    const { id } = (await started.json()) as Run;
    await until("reading", 20, async () => (await readers()).length > 0);
    await service.call("POST", `/runs/${id}/cancel`);
    await until("ended", 10, async () => (await readers()).length === 0);
    expect((await service.run(id, 30)).status).toBe("cancelled");
  }, 90_000);
});

test("on the command line, a folder shows its progress, each failure with its reason, and a summary", async () => {
  const env = { DATA_DIR: data, CONVERSION_SECONDS: "10", PATIENCE: "120", TERM: "xterm-256color" };
  const words = ["uv", "run", "my-app", "ingest", folder];
  const terminal = [join(import.meta.dirname, "../cli/terminal.py"), "100", "[]", ...words];
  const shown = await execa("python3", terminal, { cwd: project, env: environment(env), extendEnv: false });
  const { exitCode, screen } = JSON.parse(shown.stdout) as { exitCode: number; screen: string };
  const plain = stripVTControlCharacters(screen);
  expect(exitCode).toBe(1);
  expect(plain).toMatch(/Taking in .*#+.* 20\/20/);
  for (const [name, reason] of Object.entries(BAD)) {
    const line = plain.split(/[\r\n]+/).find((text) => text.includes(`bad/${name}`));
    if (name === "music.mp3") expect(line).toBe("skipped    bad/music.mp3  .mp3 is not supported");
    else expect(line, name).toMatch(new RegExp(`^failed     bad/${name}  .*(?:${reason.source})`));
  }
  expect(plain).toMatch(/5 succeeded/);
  expect(plain).toMatch(/14 failed/);

  const piped = await command({ project, data }, "ingest", join(folder, "good"));
  expect([piped.exitCode, piped.stdout]).toEqual([0, "5 unchanged"]);
}, 180_000);

test("a service that is stopped ends the reading of a file", async () => {
  const body = await readFile(join(folder, "bad/endless.pdf"));
  await fetch(`${service.url}/documents/last.pdf?wait=0`, { method: "PUT", body });
  await until("reading", 20, async () => (await readers()).length > 0);
  const held = await service.holdings();
  service.signal("SIGTERM");
  expect(await service.left(held, 6)).toEqual([]);
}, 60_000);
