/** The environment of a test: the machine's own, so that its indexes and certificates hold, without the tests' and the project's settings. */
export function environment(more: Record<string, string | undefined> = {}): Record<string, string> {
  const inherited = Object.entries(process.env).filter(([name]) => !LEFT_OUT.test(name));
  const merged = { ...Object.fromEntries(inherited), ...IDENTITY, ...more };
  return Object.fromEntries(
    Object.entries(merged).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
}

// npm tells its children which package it works in; an `npm install` elsewhere must not believe that.
const LEFT_OUT =
  /^(npm_(package|lifecycle|command|config_local_prefix|node_execpath|execpath)|INIT_CWD$|VITE|NODE_ENV$|TEST$|VIRTUAL_ENV|PYTHON|PG|DATABASE_URL$|LLM_|EMBEDDING_|AGENT_|EVAL_|WORKER_|DRAIN_|RUN_|MAX_UPLOAD|CONVERSION_|HOST$|PORT$|API_KEY$|CORS_|DATA_DIR$|LOAD_SAMPLE$|LOGFIRE_|LANGFUSE_|LANGSMITH_|OPIK_|OTEL_|TRACE_|DBOS_)/;

const IDENTITY = {
  GIT_AUTHOR_NAME: "Test",
  GIT_AUTHOR_EMAIL: "test@example.com",
  GIT_COMMITTER_NAME: "Test",
  GIT_COMMITTER_EMAIL: "test@example.com",
};
