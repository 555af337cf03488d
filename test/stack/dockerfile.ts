import { readFile, rename } from "node:fs/promises";
import { join } from "node:path";
import {
  DockerfileParser,
  type Instruction,
  type ModifiableInstruction,
  type PropertyInstruction,
} from "dockerfile-ast";
import { execa } from "execa";

interface Options {
  /** The folder that is built. */
  context: string;
  /** An empty folder of the user's. It gets `root`, the file system of the stage in work, and those of the others. */
  place: string;
  /** A folder with the files of another image, which COPY --from names. */
  filesOf: (image: string) => Promise<string>;
  /** What stands for the base image: its environment, and a Python. */
  env: Record<string, string>;
  python: string;
  /** What stands for every cache mount. */
  cache: string;
  identity: { uid?: number; gid?: number };
}

interface Image {
  workdir: string;
  env: Record<string, string>;
  user: string;
  entrypoint: string[];
  command: string[];
  health: string[];
}

/**
 * Does what a Dockerfile says in an empty folder, as an ordinary user, for want of Docker. What differs from an image:
 *
 * - A path that starts with / starts at `root` instead. All stages use the same `root`, one after another, since the
 *   paths in a virtual environment are absolute.
 * - FROM gives a Python of this machine, and the machine's own shell and tools.
 * - A cache mount is a link, and stays.
 * - USER and EXPOSE change nothing: it is one user throughout, and ports are this machine's.
 *
 * An instruction or a flag that is not known here is an error.
 */
export async function build({ context, place, filesOf, env, python, cache, identity }: Options): Promise<Image> {
  const root = join(place, "root");
  const stages = new Map<string, string>();
  const image: Image = { workdir: place, env, user: "", entrypoint: [], command: [], health: [] };
  let stage = "";
  const run = (command: string, ...args: string[]) =>
    execa("sh", ["-ec", command, "sh", ...args], { cwd: image.workdir, env: image.env, extendEnv: false, ...identity });

  const steps: Record<string, (instruction: Instruction, values: string[], flags: string[]) => Promise<unknown>> = {
    async FROM(_, [, , name = "last"]) {
      image.workdir = place;
      if (stage !== "") await rename(root, join(place, stage));
      stages.set(stage, join(place, stage));
      stage = name;
      image.env = { ...env, PATH: `${root}/usr/local/bin:${root}/bin:/usr/bin:/bin` };
      await run('mkdir -p "$1/usr/local/bin" "$1/tmp"; ln -s "$2" "$1/usr/local/bin/python3"', root, python);
    },
    async WORKDIR(_, [path = ""]) {
      await run('mkdir -p "$1"', join(root, path));
      image.workdir = join(root, path);
    },
    async ENV(instruction) {
      for (const property of (instruction as PropertyInstruction).getProperties()) {
        const value = property.getValue()?.replace(/(?<=^|:)(?=\/)/g, root) ?? "";
        image.env[property.getName()] = value.replace("$PATH", image.env["PATH"] ?? "");
      }
    },
    async COPY(_, paths, [from]) {
      const target = paths.pop() ?? "";
      const folder = join(target.startsWith("/") ? root : image.workdir, target);
      const source = from?.replace(/^--from=/, "");
      const files = source === undefined ? context : (stages.get(source) ?? (await filesOf(source)));
      await run(COPY, files, folder, ...paths.map((path) => `./${path}`));
    },
    async RUN(instruction, _, mounts) {
      for (const mount of mounts) await run('ln -sfn "$1" "$2"', cache, join(root, mount.replace(/^.*,target=/, "")));
      await run(instruction.getArgumentsContent() ?? "");
    },
    async HEALTHCHECK(instruction) {
      image.health = JSON.parse(instruction.getArgumentsContent()?.replace(/^CMD/, "") ?? "");
    },
    async ENTRYPOINT(instruction) {
      image.entrypoint = JSON.parse(instruction.getArgumentsContent() ?? "");
    },
    async CMD(instruction) {
      image.command = JSON.parse(instruction.getArgumentsContent() ?? "");
    },
    async USER(_, [user = ""]) {
      image.user = user;
    },
    async EXPOSE() {},
  };

  const dockerfile = DockerfileParser.parse(await readFile(join(context, "Dockerfile"), "utf8"));
  for (const instruction of dockerfile.getInstructions()) {
    const keyword = instruction.getKeyword();
    const flags = ((instruction as ModifiableInstruction).getFlags?.() ?? []).map(String);
    const known = flags.filter((flag) => FLAGS[keyword]?.test(flag));
    if (steps[keyword] === undefined || known.length < flags.length) throw new Error(`not known here: ${instruction}`);
    await steps[keyword](
      instruction,
      instruction.getArguments().map((argument) => argument.getValue()),
      flags,
    );
  }
  // The files of an image are root's: its user cannot change them.
  await run('chmod -R a-w "$1"', image.workdir);
  return image;
}

const FLAGS: Record<string, RegExp> = {
  COPY: /^--from=/,
  RUN: /^--mount=type=cache,target=[^,]+$/,
  HEALTHCHECK: /^--(interval|timeout|start-period)=/,
};

/** From a folder into another: files, what is in folders, and what matches a pattern, if anything does. */
const COPY = `
  cd "$1"; to=$2; shift 2
  mkdir -p "$to"
  for pattern; do for path in $pattern; do
    if [ -d "$path" ]; then cp -R "$path/." "$to"
    elif [ -e "$path" ] || [ "$path" = "\${path#*[*]}" ]; then cp "$path" "$to"; fi
  done; done`;
