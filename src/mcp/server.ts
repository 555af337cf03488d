import compiled from "compiled:catalogue";
import { join } from "node:path";
import {
  type CallToolResult,
  CLIENT_CAPABILITIES_META_KEY,
  type ClientCapabilities,
  type InputRequiredResult,
  inputRequired,
  inputResponse,
  McpServer,
  type ServerContext,
} from "@modelcontextprotocol/server";
import { summarize } from "../commands/list.ts";
import { UserError } from "../errors.ts";
import { catalogue, create, type Planned, plan } from "../index.ts";
import { findTooling } from "../machine.ts";
import { findProject, readProject } from "../project.ts";
import { nextSteps } from "../steps.ts";
import { checkPhases, settingsIn, verifyAside } from "../verify/verify.ts";
import { allowedDirectories, placeBelow, type Root } from "./directories.ts";
import { withProgress } from "./progress.ts";
import * as schemas from "./schemas.ts";

interface Options {
  /** What `--allow` says. */
  allow: readonly string[];
  /** Gets what is a bug of this program. */
  onBug: (error: unknown) => void;
}

type Result = CallToolResult | InputRequiredResult;

/** The tools. Nothing here may print on stdout, which belongs to the protocol. */
export function makeServer({ allow, onBug }: Options): McpServer {
  const info = { name: "create-ai-stack", title: "create-ai-stack", version: VERSION };
  const server = new McpServer(info, { capabilities: { tools: { listChanged: false } }, instructions: INSTRUCTIONS });

  server.registerTool(
    "list",
    {
      title: "List the tools of a stack",
      description: "What can be chosen for a project: a tool a category, each with when to choose it and when not.",
      inputSchema: schemas.listInput,
      outputSchema: schemas.listOutput,
      annotations: READS,
    },
    () => answer(onBug, async () => ({ version: VERSION, categories: catalogue.map(summarize) })),
  );

  server.registerTool(
    "plan",
    {
      title: "Plan a project",
      description: "What a project would consist of: files, dependencies, environment variables. Writes nothing.",
      inputSchema: schemas.planInput,
      outputSchema: schemas.planOutput,
      annotations: READS,
    },
    (choices) => answer(onBug, async () => describe(plan(choices))),
  );

  server.registerTool(
    "create",
    {
      title: "Create a project",
      description:
        "Creates a Python AI service in a new or empty directory: whole, or not at all. Overwrites nothing. Writes only below directories that the client allows: its roots, and where it names none, those that the server was started with.",
      inputSchema: schemas.createInput,
      outputSchema: schemas.createOutput,
      annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: false, openWorldHint: true },
    },
    ({ directory, ...options }, context) =>
      belowRoots(server, context, onBug, async (roots) => {
        const place = placeBelow(allowedDirectories(roots, allow), directory);
        const { signal } = context.mcpReq;
        const created = await withProgress(context, (onProgress) =>
          create({ ...options, directory: place, signal, onProgress }),
        );
        const steps = nextSteps(created.name, place, process.cwd(), await findTooling(), options.install);
        return { ...describe(created), nextSteps: [...steps, ...created.nextSteps] };
      }),
  );

  server.registerTool(
    "verify",
    {
      title: "Verify a project",
      description:
        "Installs, tests, starts, asks, kills, recovers and stops a project of create-ai-stack, on data of its own in a temporary folder. Needs no key; takes a minute or more. Runs the project's code.",
      inputSchema: schemas.verifyInput,
      outputSchema: schemas.verifyOutput,
      annotations: { readOnlyHint: false, destructiveHint: false, idempotentHint: true, openWorldHint: true },
    },
    ({ directory, phases }, context) =>
      belowRoots(server, context, onBug, async (roots) => {
        const directories = allowedDirectories(roots, allow);
        const place = placeBelow(directories, directory, { itself: true });
        // It may lie above what was named.
        const project = placeBelow(directories, findProject(place), { itself: true });
        // What uv writes to, where these are links.
        for (const own of [".venv", "uv.lock"]) placeBelow(directories, join(project, own));
        const { root: _, ...choices } = readProject(project);
        if (phases !== undefined) checkPhases(phases);
        const { signal } = context.mcpReq;
        const { transcript: __, ...verdict } = await withProgress(context, (tell) =>
          verifyAside({
            ...{ project, name: choices.name, signal, phases, settings: settingsIn(compiled) },
            progress: (phase, work) => {
              tell(phase);
              return work();
            },
          }),
        );
        return { directory: project, ...choices, ...verdict };
      }),
  );

  return server;
}

const INSTRUCTIONS =
  "Creates Python AI services: one database, one API layer, one workflow engine, one observability tool. Use list to choose, plan to see what would be made, create to make it, verify to prove that it works.";

const READS = { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false };

const ROOTS = "roots";

/** Runs what needs the client's roots, and asks for them first. */
async function belowRoots(
  server: McpServer,
  { mcpReq }: ServerContext,
  onBug: Options["onBug"],
  work: (roots: readonly Root[]) => Promise<Record<string, unknown>>,
): Promise<Result> {
  // A client says what it is capable of with each request, or, before the protocol of 2026-07-28, once.
  const envelope: { [CLIENT_CAPABILITIES_META_KEY]?: ClientCapabilities } = mcpReq.envelope ?? {};
  const capabilities = envelope[CLIENT_CAPABILITIES_META_KEY] ?? server.server.getClientCapabilities();
  if (capabilities?.roots === undefined) return answer(onBug, () => work([]));
  const response = inputResponse(mcpReq.inputResponses, ROOTS);
  // Asked for with every call: they may change at any time.
  if (response.kind !== "roots") return inputRequired({ inputRequests: { [ROOTS]: inputRequired.listRoots() } });
  // The SDK does not check what comes back, and what is no root must not pass for a list without any.
  const roots = response.roots.map((root) => ({ uri: String(root?.uri) }));
  return answer(onBug, () => work(roots));
}

/** The result of a tool: as data, and as text for clients that read no data. What the user can mend is a result too. */
async function answer(onBug: Options["onBug"], work: () => Promise<Record<string, unknown>>): Promise<CallToolResult> {
  try {
    const structuredContent = await work();
    return { content: [{ type: "text", text: JSON.stringify(structuredContent) }], structuredContent };
  } catch (error) {
    if (error instanceof UserError) return failure(`${error.message}\n${error.hint}`);
    onBug(error);
    return failure(`A bug in create-ai-stack: ${error}\nIts output on stderr says where. Please report it.`);
  }
}

function failure(text: string): CallToolResult {
  return { content: [{ type: "text", text }], isError: true };
}

/** As `--json` prints it. */
function describe({ files, ...facts }: Planned) {
  return { ...facts, files: [...files.keys()] };
}
