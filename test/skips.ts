import { readFileSync } from "node:fs";
import type { Reporter, TestCase, TestModule, Vitest } from "vitest/node";

/**
 * Fails the run for every test that was skipped, or is expected to fail, without a reason in skips.json.
 * Closes with a line that every CI understands.
 */
export default class Skips implements Reporter {
  #isFiltered = false;

  onInit(vitest: Vitest): void {
    this.#isFiltered = vitest.config.testNamePattern !== undefined;
  }

  onTestRunEnd(modules: readonly TestModule[], errors: readonly unknown[]): void {
    if (!this.#isFiltered) this.#judgeSkips(modules);
    console.log(closingLine(modules, errors));
  }

  #judgeSkips(modules: readonly TestModule[]): void {
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

function closingLine(modules: readonly TestModule[], errors: readonly unknown[]): string {
  const tests = modules.flatMap((module) => [...module.children.allTests()]);
  const count = (state: string) => tests.filter((test) => test.result().state === state).length;
  // A file that cannot be read, or a hook that fails, has no test of its own to count.
  const broken = modules.filter((module) => module.errors().length > 0).length + errors.length;
  return `\n${count("passed")} passed, ${count("failed") + broken} failed, ${count("skipped")} skipped`;
}
