import { expect } from "vitest";
import { freePort } from "../../src/verify/holdings.ts";
import { command } from "./service.ts";

/** What a command and a service say of settings that they do not start with: a line each, without the password. */
export async function refusals(project: string, data: string, env: Record<string, string>): Promise<string[]> {
  const options = { project, data, env: { PORT: `${await freePort()}`, ...env } };
  const results = await Promise.all(["runs", "serve"].map((name) => command(options, name)));
  return results.map(({ exitCode, stderr }) => {
    const [line, ...more] = stderr.split("\n").filter((line) => !line.startsWith("INFO: "));
    expect(exitCode).toBeGreaterThan(0);
    expect(more, stderr).toEqual([]);
    expect(stderr).not.toContain("sEcret");
    return line ?? "";
  });
}
