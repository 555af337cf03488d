/** Exit codes: what a script that calls this command can rely on. */
export const EXIT = { ok: 0, failure: 1, usage: 2, cancelled: 130 } as const;

interface Details {
  code: string;
  message: string;
  /** What to type or change next. */
  hint: string;
  /** The offending value, where there is one. */
  value?: string;
  exitCode?: number;
}

/** Something the user can mend. Every other error is a bug in this program. */
export class UserError extends Error {
  readonly code: string;
  readonly hint: string;
  readonly value: string | undefined;
  readonly exitCode: number;

  constructor({ code, message, hint, value, exitCode = EXIT.usage }: Details) {
    super(message);
    this.name = "UserError";
    this.code = code;
    this.hint = hint;
    this.value = value;
    this.exitCode = exitCode;
  }
}

/** A value that is none of those that there are. */
export function noneOf(known: readonly { id: string }[], code: string, message: string, value: string): UserError {
  return new UserError({ code, message, value, hint: `Take one of: ${known.map(({ id }) => id).join(", ")}.` });
}

/** Ctrl-C, a signal, or Escape at a prompt. `hint` says what is there now. */
export class Cancelled extends UserError {
  constructor(hint = "Nothing was changed.") {
    super({ code: "cancelled", message: "Cancelled.", hint, exitCode: EXIT.cancelled });
    this.name = "Cancelled";
  }
}
