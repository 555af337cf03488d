import { expect, test } from "vitest";
import { converse, type Step } from "./converse.ts";
import { readTree, tempFolder } from "./run.ts";

const ENTER = "\r";
const ESCAPE = "\u001b";
const CTRL_C = "\u0003";
const CTRL_D = "\u0004";
const DOWN = "\u001b[B";

const DIRECTORY = "Where shall the project go?";
const QUESTIONS = [DIRECTORY, "Where shall the data go?", "How do you look at it?"];

test("the answers make the project, and the reason for each choice is shown", async () => {
  const cwd = await tempFolder();
  const { exitCode, screen, left } = await converse(
    [
      [DIRECTORY, `team-app${ENTER}`],
      ["You like order", ENTER],
      ["How do you look at it?", ENTER],
    ],
    { cwd, args: ["--no-install", "--no-git"] },
  );
  expect([exitCode, left]).toEqual([0, []]);
  expect(screen).toContain("Crate: You move often.");
  expect(screen).toContain("There is something to see.");
  expect(screen).toMatch(/directory\s+team-app/);
  expect(screen).toContain("npx create-ai-stack@0.1.0 team-app --store shelf --view window --no-install --no-git");
  expect(await readTree(cwd)).toHaveProperty(["team-app/ai-stack.json"]);
});

test("only what no flag says is asked", async () => {
  const cwd = await tempFolder();
  const { exitCode, screen } = await converse([["How do you look at it?", ENTER]], {
    cwd,
    args: ["team-app", "--store", "shelf", "--no-install", "--no-git"],
  });
  expect(exitCode).toBe(0);
  expect(screen).not.toContain(DIRECTORY);
  expect(screen).not.toContain("Where shall the data go?");
});

test("another option can be picked, and a need that it leaves open is told", async () => {
  const cwd = await tempFolder();
  const steps: Step[] = [
    ["Where shall the data go?", `${DOWN}${ENTER}`],
    ["How do you look at it?", ENTER],
  ];
  const { exitCode, screen } = await converse(steps, { cwd, args: ["team-app"] });
  expect(exitCode).toBe(2);
  expect(screen).toContain("which none of store/crate, view/window provides");
  expect(await readTree(cwd)).toEqual({});
});

test("a directory that is refused is asked for again", async () => {
  const cwd = await tempFolder();
  const steps: Step[] = [
    [DIRECTORY, `My App${ENTER}`],
    ["Try my-app.", `${CTRL_C}`],
  ];
  const { exitCode } = await converse(steps, { cwd });
  expect(exitCode).toBe(130);
});

const cancels = QUESTIONS.flatMap((question, index) =>
  [CTRL_C, CTRL_D, ESCAPE].map((key) => ({ question, index, key })),
);

test.each(cancels)("cancelled at “$question”: exit 130, nothing left (case $index)", async ({ index, key }) => {
  const cwd = await tempFolder();
  const steps = QUESTIONS.slice(0, index + 1).map((question, at): Step => [question, at === index ? key : ENTER]);
  const { exitCode, left } = await converse(steps, { cwd });
  expect([exitCode, left]).toEqual([130, []]);
  expect(await readTree(cwd)).toEqual({});
});

test("a signal at a prompt is a cancel too", async () => {
  const cwd = await tempFolder();
  const { exitCode } = await converse([[DIRECTORY, "SIGTERM"]], { cwd });
  expect(exitCode).toBe(130);
  expect(await readTree(cwd)).toEqual({});
});

test("a terminal of 30 columns is enough", async () => {
  const cwd = await tempFolder();
  // Lines are broken, so whole questions are not to be found.
  const steps = ["project", "the data", "look at"].map((part): Step => [part, ENTER]);
  const { exitCode, left } = await converse(steps, { cwd, columns: 30, args: ["--no-install", "--no-git"] });
  expect([exitCode, left]).toEqual([0, []]);
});

test("a terminal that does not say its size counts as one of 80 columns", async () => {
  const { screen } = await converse([[DIRECTORY, CTRL_C]], { cwd: await tempFolder(), columns: 0 });
  expect(screen).toContain(DIRECTORY);
});

test("NO_COLOR and CI hold in a terminal too", async () => {
  const cwd = await tempFolder();
  const { raw } = await converse([], { cwd, args: ["list"], env: { NO_COLOR: "1" } });
  expect(raw).not.toContain("\u001b");
  const { exitCode, screen } = await converse([], { cwd, env: { CI: "true" } });
  expect(exitCode).toBe(2);
  expect(screen).toContain("Missing:");
});
