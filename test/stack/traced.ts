import { rm } from "node:fs/promises";
import { afterAll } from "vitest";
import { ModelServer } from "../../src/verify/model-server.ts";
import { Backend } from "./backend.ts";
import { MODEL, SECRETS, script } from "./script.ts";
import { makeFolder, type Run as PlainRun, Service } from "./service.ts";

export const authorized = { Authorization: `Bearer ${SECRETS.API_KEY}` };

export interface Run extends PlainRun {
  trace_url: string | null;
}

type Variables = Record<string, string>;

/**
 * A project with a scripted model, and a backend of a vendor's that it sends its traces to: by these variables, given the
 * backend's address and what the command is. All of it ends when the file's tests have.
 */
export async function traced(project: string, vendor: string, variables: (url: string, command: string) => Variables) {
  const model = await ModelServer.start(script);
  const backend = await Backend.start(project, vendor);
  const data = await makeFolder("data-");
  const services: Service[] = [];

  function options(name: string, more: Variables = {}) {
    const env = { ...model.env, LLM_MODEL: MODEL, ...SECRETS, ...variables(backend.url, name), ...more };
    return { project, data, command: ["uv", "run", "my-app", name], env };
  }

  async function start(name: string, more: Variables, ready?: string): Promise<Service> {
    const service = await Service.start({ ...options(name, more), ...(ready === undefined ? {} : { ready }) });
    services.push(service);
    return service;
  }

  const serve = (more: Variables = {}) => start("serve", more);
  const work = (more: Variables = {}) => start("worker", more, "Working on runs");

  afterAll(async () => {
    model.release();
    await Promise.all(services.map((service) => service.end())); // together: they share the database
    await backend.stop();
    await model.stop();
    await rm(data, { recursive: true, force: true });
  });
  return { model, backend, data, options, serve, work };
}
