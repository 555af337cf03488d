import type { Catalogue } from "../../src/catalogue.ts";
import { packageOf } from "../../src/tool.ts";
import { allOf, type Combination, nameOf } from "./combinations.ts";
import { hashOf } from "./prove.ts";
import type { Outcome } from "./verify.ts";

// docs/combinations.md, which is written from results, and read again for what a later matrix does not run.

/** What was found out about a combination, as the page shows it. */
export interface Entry {
  result: string;
  create: string;
  install: string;
  answer: string;
  tests: string;
  commit: string;
  hash: string;
}

export interface Page {
  /** By the names of combinations. */
  entries: Record<string, Entry>;
  /** By commit: when and on what machine it was tested last. */
  runs: Record<string, string>;
  /** By tool and commit: the packages that the tool asks for, as they were installed. */
  versions: Record<string, string>;
}
