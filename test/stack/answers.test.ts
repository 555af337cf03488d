import { readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { collapse, command, makeFolder, Service } from "./service.ts";

// Real input, see documents/README: pages that nobody here wrote, and questions that were fixed before any tuning.

const DOCUMENTS = join(import.meta.dirname, "documents");
const project = inject("project");
let data: string;
let service: Service;

interface Question {
  question: string;
  file: string | string[];
  answer: string[];
}

beforeAll(async () => {
  data = await makeFolder("data-");
  // Not `dev`, which would add the samples.
  service = await Service.start({ project, data, command: ["uv", "run", "my-app", "serve"] });
});

afterAll(async () => {
  await service?.end();
  await rm(data, { recursive: true, force: true });
});

// Two megabytes go through the embedding model, on whatever processor this is.
const PATIENCE = 1_200_000;

test(
  "without a key, the documentation of Python is cited, answers, and is not made to answer what it cannot",
  async () => {
    const ingested = await command({ project, data }, "ingest", DOCUMENTS);
    expect(ingested.exitCode, ingested.stderr).toBe(0);
    const skipped = ["LICENSE", "README"].map((name) => `skipped    ${name}  no suffix is not supported`);
    expect(ingested.stdout.split("\n")).toEqual([...skipped, "2 skipped, 88 succeeded"]);

    const { answerable, unanswerable }: { answerable: Question[]; unanswerable: { question: string }[] } = JSON.parse(
      await readFile(join(import.meta.dirname, "questions.json"), "utf8"),
    );
    const misses: string[] = [];
    let cited = 0;
    let answered = 0;
    for (const { question, file, answer } of answerable) {
      const { citations } = (await service.ask(question)).result;
      const right = citations.filter(({ source }) => [file].flat().includes(source));
      const quotes = right.map(({ quote }) => collapse(quote));
      for (const { source, quote } of citations) await expectVerbatim(source, quote);
      if (right.length > 0) cited += 1;
      if (quotes.some((quote) => answer.some((words) => quote.includes(collapse(words))))) answered += 1;
      else misses.push(`${right.length > 0 ? "cited only" : "not cited"}: ${question}`);
    }
    let refused = 0;
    for (const { question } of unanswerable) {
      if ((await service.ask(question)).result.refused) refused += 1;
      else misses.push(`not refused: ${question}`);
    }

    const figures = `${cited} of 20 cited, ${answered} of 20 answered, ${refused} of 10 refused`;
    console.log([figures, ...misses].join("\n"));
    expect([answerable.length, unanswerable.length]).toEqual([20, 10]);
    expect(cited, figures).toBeGreaterThanOrEqual(16);
    expect(answered, figures).toBeGreaterThanOrEqual(12);
    expect(refused, figures).toBeGreaterThanOrEqual(8);
    await expectPromised({ cited, answered, refused });
  },
  PATIENCE,
);

async function expectVerbatim(source: string, quote: string): Promise<void> {
  expect(collapse(await readFile(join(DOCUMENTS, source), "utf8"))).toContain(collapse(quote));
}

/** The README does not say more than was measured. */
async function expectPromised(measured: Record<"cited" | "answered" | "refused", number>): Promise<void> {
  const readme = await readFile(join(import.meta.dirname, "../../README.md"), "utf8");
  for (const [what, count] of Object.entries(measured)) {
    const promised = readme.match(new RegExp(`^\\| .*\\b${what}\\b.* \\| (\\d+) of \\d+`, "m"))?.[1];
    expect(promised, `the README's figure for ${what}`).toBeDefined();
    expect(Number(promised), `the README's figure for ${what}`).toBeLessThanOrEqual(count);
  }
}
