import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { holdings } from "../../src/verify/holdings.ts";
import { ModelServer } from "../../src/verify/model-server.ts";
import { Program } from "../../src/verify/program.ts";

const say = (messages: object[]) => ({ method: "POST", body: JSON.stringify({ model: "scripted", messages }) });

test("what the model does not understand is an error of the request, and it goes on", async () => {
  const model = await ModelServer.start(({ question }) => ({ answer: JSON.parse(question) }));
  onTestFinished(() => model.stop());
  const requests = [undefined, { method: "POST", body: "no JSON" }, { method: "POST", body: "{}" }, say([])];
  for (const request of [...requests, say([{ role: "user", content: "no JSON" }])]) {
    const response = await fetch(`${model.origin}/v1/chat/completions`, request);
    expect(response.status).toBe(400);
    expect(await response.text()).toContain("is more than this model knows");
  }
  const { status } = await fetch(model.origin, say([{ role: "user", content: "{}" }]));
  expect(status).toBe(200);
});

test.runIf(process.platform === "linux")(
  "a program has ended, whoever still holds its output",
  async () => {
    const folder = await mkdtemp(join(tmpdir(), "verify-"));
    onTestFinished(() => rm(folder, { recursive: true }));
    const env = { PATH: process.env["PATH"] ?? "" };
    const command = ["sh", "-c", "setsid sleep 60 & echo done"];
    const program = new Program({ folder, data: folder, command, env });
    expect(await program.ended).toBe(0);
    expect(program.output).toBe("done\n");
    const { processes } = await holdings(undefined, [folder]);
    expect([...processes.values()]).toEqual(["sleep 60"]);
    for (const pid of processes.keys()) process.kill(pid, "SIGKILL");
  },
  30_000,
);
