import { execa } from "execa";

/**
 * The commands in turn, A B C A B C …, after a round that does not count: each one's seconds, run by run.
 * @param {Record<string, (run: number) => string[]>} commands
 * @param {{ cwd: string, env: NodeJS.ProcessEnv, runs?: number }} where
 */
export async function timeInTurn(commands, { cwd, env, runs = 21 }) {
  /** @type {Record<string, number[]>} */
  const seconds = Object.fromEntries(Object.keys(commands).map((name) => [name, []]));
  for (let run = 0; run <= runs; run += 1) {
    for (const [name, command] of Object.entries(commands)) {
      const [program = "", ...args] = command(run);
      const started = performance.now();
      await execa(program, args, { cwd, env, extendEnv: false, stdin: "ignore" });
      if (run > 0) seconds[name]?.push((performance.now() - started) / 1000);
    }
  }
  return seconds;
}
