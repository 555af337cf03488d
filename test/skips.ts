import { readFileSync } from "node:fs";
import type { Reporter, TestCase, TestModule, Vitest } from "vitest/node";

/** Fails the run for every test that was skipped, or is expected to fail, without a reason in skips.json. */
export default class Skips implements Reporter {
  #isFiltered = false;

  onInit(vitest: Vitest): void {
    this.#isFiltered = vitest.config.testNamePattern !== undefined;
  }

  onTestRunEnd(modules: readonly TestModule[]): void {
    if (this.#isFiltered) return;
    const reasons: Record<string, string> = JSON.parse(readFileSync(new URL("skips.json", import.meta.url), "utf8"));
    for (const test of modules.flatMap((module) => [...module.children.allTests()])) {
      if (!isLeftOut(test)) continue;
      const name = `${test.module.relativeModuleId} > ${test.fullName}`;
      const reason = reasons[name];
      if (reason === undefined) process.exitCode = 1;
      console.log(
        reason === undefined ? `Skipped, and not in test/skips.json: ${name}` : `Skipped: ${name}: ${reason}`,
      );
    }
  }
}

function isLeftOut(test: TestCase): boolean {
  return test.result().state === "skipped" || test.options.fails === true;
}
