import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { rootCertificates } from "node:tls";
import { expect, onTestFinished, test } from "vitest";
import { bundleAuthorities, deriveUvSettings } from "../../src/uv-settings.ts";

test("nothing is derived from nothing, and npm's empty values are nothing", () => {
  const none = { variables: {}, authorities: [] };
  expect(deriveUvSettings({})).toEqual(none);
  expect(
    deriveUvSettings({ npm_config_noproxy: "", npm_config_proxy: "null", npm_config_https_proxy: "false" }),
  ).toEqual(none);
});

test("pip's indexes become uv's, to be chosen among as pip does", () => {
  const { variables } = deriveUvSettings({
    PIP_INDEX_URL: "https://me:secret@a.example/simple",
    PIP_EXTRA_INDEX_URL: "https://b.example/simple https://c.example/simple",
    PIP_TRUSTED_HOST: "b.example",
  });
  expect(variables).toEqual({
    UV_DEFAULT_INDEX: "https://me:secret@a.example/simple",
    UV_INDEX: "https://b.example/simple https://c.example/simple",
    UV_INSECURE_HOST: "b.example",
    UV_INDEX_STRATEGY: "unsafe-best-match",
  });
});

test("npm's proxies become those of every program", () => {
  const proxy = { npm_config_proxy: "http://a.example:3128", npm_config_noproxy: "intranet.example" };
  expect(deriveUvSettings(proxy).variables).toEqual({
    HTTP_PROXY: "http://a.example:3128",
    HTTPS_PROXY: "http://a.example:3128",
    NO_PROXY: "intranet.example",
  });
  const both = { ...proxy, npm_config_https_proxy: "http://b.example:3128" };
  expect(deriveUvSettings(both).variables["HTTPS_PROXY"]).toBe("http://b.example:3128");
});

test.each([
  [{ UV_DEFAULT_INDEX: "https://own.example" }, "UV_DEFAULT_INDEX"],
  [{ UV_INDEX_URL: "https://own.example" }, "UV_DEFAULT_INDEX"],
  [{ UV_EXTRA_INDEX_URL: "https://own.example" }, "UV_INDEX"],
  [{ UV_INDEX_STRATEGY: "first-index" }, "UV_INDEX_STRATEGY"],
  [{ https_proxy: "http://own.example" }, "HTTPS_PROXY"],
  [{ ALL_PROXY: "http://own.example" }, "HTTP_PROXY"],
  [{ no_proxy: "own.example" }, "NO_PROXY"],
])("%o leaves %s alone", (own, name) => {
  const others = {
    PIP_INDEX_URL: "https://a.example",
    PIP_EXTRA_INDEX_URL: "https://b.example",
    npm_config_proxy: "http://c.example",
    npm_config_noproxy: "d.example",
  };
  expect(deriveUvSettings(others).variables).toHaveProperty(name);
  expect(deriveUvSettings({ ...others, ...own }).variables).not.toHaveProperty(name);
});

test("pip's configuration file counts, after the environment", () => {
  const config = [
    "global.cert='C:\\\\ca.pem'",
    `global.extra-index-url="\\nhttps://b.example/simple\\nhttps://c.example/it's"`,
    "global.index-url='https://global.example/simple'",
    "install.index-url='https://install.example/simple'",
    "install.proxy='http://p.example:1'",
    ":env:.index-url='https://env.example'",
  ].join("\n");
  const { variables, authorities } = deriveUvSettings({}, config);
  expect(variables).toMatchObject({
    UV_DEFAULT_INDEX: "https://install.example/simple",
    UV_INDEX: "https://b.example/simple https://c.example/it's",
    HTTPS_PROXY: "http://p.example:1",
  });
  expect(authorities).toEqual(["C:\\ca.pem"]);
  const set = deriveUvSettings({ PIP_INDEX_URL: "https://env.example/simple" }, config);
  expect(set.variables["UV_DEFAULT_INDEX"]).toBe("https://env.example/simple");
});

test("authorities are gathered, unless uv has been told which to trust", () => {
  const set = { PIP_CERT: "/a.pem", npm_config_cafile: "/b.pem", NODE_EXTRA_CA_CERTS: "/a.pem" };
  expect(deriveUvSettings(set).authorities).toEqual(["/a.pem", "/b.pem"]);
  for (const own of ["SSL_CERT_FILE", "SSL_CERT_DIR", "UV_SYSTEM_CERTS", "UV_NATIVE_TLS"]) {
    expect(deriveUvSettings({ ...set, [own]: "1" }).authorities).toEqual([]);
  }
});

test("an authority is trusted beside the others, and a file that is not there is passed over", () => {
  const folder = mkdtempSync(join(tmpdir(), "authorities-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const company = join(folder, "company.pem");
  writeFileSync(company, "the company's\n");
  expect(bundleAuthorities([join(folder, "none.pem")])).toBeUndefined();
  const bundle = bundleAuthorities([join(folder, "none.pem"), company]);
  onTestFinished(() => rmSync(bundle?.folder ?? "", { recursive: true, force: true }));
  const content = readFileSync(bundle?.file ?? "", "utf8");
  expect(content).toContain("the company's");
  expect(content).toContain(rootCertificates[0]);
});
