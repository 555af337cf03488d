#!/usr/bin/env node
const [major = 0, minor = 0] = process.versions.node.split(".").map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  console.error(`create-ai-stack needs Node 20.19 or newer; this is ${process.versions.node}.`);
  process.exitCode = 1;
} else {
  /** @type {typeof import("../src/cli.ts")} */
  const { main } = require(`${__dirname}/../dist/cli.cjs`);
  main(process.argv.slice(2)).then((exitCode) => {
    process.exitCode = exitCode;
  });
}
