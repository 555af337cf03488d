import { rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Call, ModelServer, type Reply } from "../../src/verify/model-server.ts";
import { script } from "./script.ts";
import { type Document, makeFolder } from "./service.ts";
import { projectWith, stacks } from "./stacks.ts";
import { type Moment, type Plan, type Stop, Victims } from "./victims.ts";

// Whatever the engine: a run that is killed at any moment of any of its steps ends as if it had not been. What is
// recorded does not run again, and the step that was cut off once again.

const ASK = ["llm 1", "search_documents 1.1", "llm 2", "read_document 2.1", "llm 3"];
const INGEST = ["look up", "split", "embed 1", "embed 2", "store"];
const MOMENTS: Moment[] = ["before", "inside", "unrecorded", "recorded"];
const AT_ONCE = ["split", "embed 1", "embed 2"]; // they wait for a thread, and for nothing else

const WHOLE = "whole.md";
const UNINTERRUPTED = "How long are invoices kept?";
const QUEUED = `${UNINTERRUPTED} (killed before it began)`;
const THRICE = `${UNINTERRUPTED} (killed three times)`;

interface Kill {
  step: string;
  moment: Moment;
  waits: number;
  /** The question, or the name of the document. */
  subject: string;
  /** Whether the function has to run again. */
  isLost: boolean;
}

const makeKill = (step: string, moment: Moment, waits: number): Kill => {
  const killed = `killed at ${step}: ${moment} ${waits}`;
  const subject = ASK.includes(step) ? `${UNINTERRUPTED} (${killed})` : `${killed}.md`;
  return { step, moment, waits, subject, isLost: moment === "inside" || moment === "unrecorded" };
};
const killsOf = (steps: string[]) =>
  steps.flatMap((step) => MOMENTS.map((moment) => makeKill(step, moment, AT_ONCE.includes(step) ? 1 : 2)));

const ASKED = killsOf(ASK);
// More of them inside the transaction that stores a document, with part or all of it written.
const GIVEN = [...killsOf(INGEST), makeKill("store", "inside", 5), makeKill("store", "inside", 8)];
const KILLS = [...ASKED, ...GIVEN];
/** These stand still until one signal kills them all; of the others, each kills a process of its own. */
const TOGETHER = KILLS.filter(
  // One that stands still in its transaction may keep others from storing.
  ({ step, moment }) => moment !== "recorded" && !(step === "store" && moment === "inside"),
);
const ALONE = KILLS.filter((kill) => !TOGETHER.includes(kill));
/** In these, the model keeps the process waiting. */
const HANGING = TOGETHER.filter(({ step, moment }) => step.startsWith("llm") && moment === "inside");

/** A model that never ends what it says in a turn that is to be killed, the first time. */
function hang(call: Call): Reply {
  const kill = HANGING.find(({ subject }) => subject === call.question);
  if (kill?.step !== `llm ${call.turn}` || call.attempt !== call.turn) return script(call);
  return (response) => void response.writeHead(200, { "Content-Type": "text/event-stream" }).write(": wait\n\n");
}

/** More passages than are embedded in one step; the older the version, the more. */
function text(version: number): string {
  const sentences = (number: number) => `Thing ${number} of version ${version} costs ${number * 7} crowns. `.repeat(3);
  return Array.from({ length: 45 - version }, (_, part) => `# Part ${part}\n\n${sentences(part)}\n\n`).join("");
}

function planOf(kills: Kill[]): Required<Pick<Plan, "questions" | "uploads" | "stops">> {
  const stop = ({ subject, step, moment, waits }: Kill): [string, Stop] => [subject, [step, moment, waits]];
  return {
    questions: kills.filter((kill) => ASKED.includes(kill)).map(({ subject }) => subject),
    uploads: Object.fromEntries(
      kills.filter((kill) => GIVEN.includes(kill)).map(({ subject }) => [subject, [subject, text(2)]]),
    ),
    stops: Object.fromEntries(kills.filter((kill) => !HANGING.includes(kill)).map(stop)),
  };
}

function times(steps: string[], twice: string[]): Record<string, number> {
  return Object.fromEntries(steps.map((step) => [step, twice.includes(step) ? 2 : 1]));
}

describe.each(stacks("--workflow prefect"))("%s", (stack) => {
  let model: ModelServer;
  let folder: string;
  let once: Victims;
  let thrice: Victims;
  let left: string[];

  beforeAll(async () => {
    const project = await projectWith(stack);
    folder = await makeFolder("durability-");
    model = await ModelServer.start(hang);
    once = new Victims(project, join(folder, "once"), model);
    thrice = new Victims(project, join(folder, "thrice"), model);
    await Promise.all([killOnce(), killThrice()]);
  });

  afterAll(async () => {
    await model?.stop();
    await rm(folder, { recursive: true, force: true });
  });

  async function killOnce(): Promise<void> {
    const plan = planOf(TOGETHER);
    const questions = [...plan.questions, QUEUED];
    const victim = once.run({ ...plan, questions, concurrency: TOGETHER.length, hold: true });
    try {
      await victim.until("all stand still", 120, async () => {
        const hanging = HANGING.filter(({ step, subject }) => step === `llm ${model.asked(subject).length}`);
        return (await once.told("stopped")).length + hanging.length === TOGETHER.length;
      });
      const held = await victim.holdings();
      victim.signalGroup("SIGKILL");
      left = await victim.left(held);
    } finally {
      await victim.end();
    }

    const stored = ALONE.filter(({ step }) => step === "store");
    const older = stored.map(({ subject }) => [`older ${subject}`, [subject, text(1)]]);
    const uploads = { [WHOLE]: [WHOLE, text(2)], ...Object.fromEntries(older) };
    const all = [...KILLS.map(({ subject }) => subject), QUEUED];
    await once.rescue(all, { questions: [UNINTERRUPTED], uploads }, async (rescuer) => {
      await once.untilEnded([UNINTERRUPTED, ...Object.keys(uploads)], rescuer);
      const open = ALONE.values();
      const killOneByOne = async () => {
        for (const kill of open) await once.die({ ...planOf([kill]), concurrency: null });
      };
      await Promise.all([killOneByOne(), killOneByOne()]);
    });
  }

  async function killThrice(): Promise<void> {
    const stop = (...at: Stop): Plan => ({ concurrency: 8, stops: { [THRICE]: at } });
    await thrice.die({ ...stop("llm 1", "unrecorded", 0), questions: [THRICE] });
    await thrice.die(stop("search_documents 1.1", "recorded", 0));
    await thrice.die(stop("read_document 2.1", "inside", 2));
    await thrice.rescue([THRICE]);
  }

  async function expectSame(victims: Victims, subject: string, lost: string[], cutOff = lost): Promise<void> {
    const steps = subject.startsWith(UNINTERRUPTED) ? ASK : INGEST;
    const { result, events, ran } = await victims.outcome(subject);
    expect(result).toMatchObject({ status: "succeeded", error: null });
    expect(ran).toEqual(times(steps, lost));
    expect(Object.fromEntries(result.steps.map(({ name, attempts }) => [name, attempts]))).toEqual(
      times(steps, cutOff),
    );
    expect(result.steps.every((step) => step.finished_at !== null && step.error === null)).toBe(true);
    expect(events).toEqual(events.map((_, index) => index + 1));
  }

  async function expectSameAnswer(victims: Victims, question: string, lost: string[], cutOff = lost): Promise<void> {
    await expectSame(victims, question, lost, cutOff);
    const uninterrupted = await once.outcome(UNINTERRUPTED);
    expect((await victims.outcome(question)).result.result).toEqual(uninterrupted.result.result);
    expect(model.counts(question)).toEqual([1, 2, 3].map((turn) => (lost.includes(`llm ${turn}`) ? 2 : 1)));
    const keys = new Set(model.asked(question).map(({ turn, headers }) => `${turn} ${headers["idempotency-key"]}`));
    expect(keys.size, "each turn has a key of its own, which stays").toBe(3);
  }

  test("uninterrupted, each step runs once, and the answer cites", async () => {
    await expectSameAnswer(once, UNINTERRUPTED, []);
    const { result } = await once.outcome(UNINTERRUPTED);
    expect(result.result).toMatchObject({ refused: false, citations: [{ source: "sample/billing.md" }] });
  });

  test("killed, it leaves nothing behind: servers that it has started end by themselves", () => {
    expect(left).toEqual([]);
  });

  test("killed before the first step", () => expectSameAnswer(once, QUEUED, []));

  test.each(ASKED)("killed at $step: $moment", async ({ subject, step, moment, isLost }) => {
    await expectSameAnswer(once, subject, isLost ? [step] : [], moment === "recorded" ? [] : [step]);
  });

  test("killed three times in a row", () => expectSameAnswer(thrice, THRICE, ["llm 1", "read_document 2.1"]));

  test.each(GIVEN)("killed at $step: $moment $waits", async ({ subject, step, moment, isLost }) => {
    await expectSame(once, subject, isLost ? [step] : [], moment === "recorded" ? [] : [step]);
    const { result, passages } = await once.outcome(subject);
    const whole = await once.outcome(WHOLE);
    const { content_hash, chunks } = whole.result.result as Document;
    expect(result.result).toMatchObject({ source: subject, content_hash, chunks });
    expect(passages).toEqual(whole.passages);
    expect(passages.map(([position]) => position)).toEqual(Array.from({ length: chunks }, (_, position) => position));
  });
});
