import { rm } from "node:fs/promises";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { makeFolder, Service } from "./service.ts";
import { uvx } from "./uvx.ts";

// The API keeps what its OpenAPI says, whatever is sent to it: requests made up by schemathesis, with a fixed seed.

const project = inject("project");
let data: string;
let service: Service;

const LEFT_OUT = [
  "allow_header_conformance", // Starlette names the methods of one route, not those of all routes on its path
  "unsupported_method", // the name of a document may have slashes, so PUT works below each document as well
  "positive_data_acceptance", // no schema tells whether a document can be read, or which steps a run has
];

beforeAll(async () => {
  data = await makeFolder("data-");
  service = await Service.start({ project, data, env: { API_KEY: "secret" } });
});

afterAll(async () => {
  await service.end();
  await rm(data, { recursive: true, force: true });
});

test("schemathesis finds no answer that the OpenAPI does not declare, and no failure", async () => {
  const checks = ["--checks", "all", "--exclude-checks", LEFT_OUT.join(",")];
  const args = [...checks, "--max-examples", "5", "--seed", "1", "--no-shrink", "--continue-on-failure"];
  const target = ["run", `${service.url}/openapi.json`, "-H", "Authorization: Bearer secret"];
  const { exitCode, all } = await uvx("schemathesis", [...target, ...args], data);
  expect(exitCode, all).toBe(0);
  expect(all).toMatch(/Tested: *1\d/);
});

test("with a key, its docs are open and ask for it, and nothing else is", async () => {
  const { components } = await service.call<{ components: { securitySchemes: object } }>("GET", "/openapi.json");
  expect(Object.values(components.securitySchemes)).toMatchObject([{ type: "http", scheme: "bearer" }]);
  expect((await fetch(`${service.url}/docs`)).status).toBe(200);
  expect((await fetch(`${service.url}/runs`)).status).toBe(401);
});
