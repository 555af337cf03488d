// Loaded into the CLI before it starts: at its FAULT_AT-th change of the file system, FAULT happens.
import nodeFs from "node:fs";

const fs = /** @type {Record<string, any>} */ (nodeFs);
const { FAULT = "", FAULT_AT } = process.env;
let changes = 0;

for (const name of ["mkdir", "writeFile", "rename", "rm", "rmdir"]) {
  const original = fs[`${name}Sync`];
  fs[`${name}Sync`] = (/** @type {any[]} */ ...args) => {
    changes += 1;
    if (changes !== Number(FAULT_AT)) return original.call(fs, ...args);
    if (FAULT === "SIGKILL" && name === "writeFile") original.call(fs, args[0], args[1].slice(0, 5));
    if (FAULT.startsWith("SIG")) process.kill(process.pid, FAULT);
    // What cleans up must not fail, or nothing could.
    if (FAULT.startsWith("SIG") || name.startsWith("rm")) return original.call(fs, ...args);
    const error = new Error(`${FAULT}: injected`);
    if (FAULT !== "BUG") Object.assign(error, { code: FAULT, syscall: name });
    throw error;
  };
}
