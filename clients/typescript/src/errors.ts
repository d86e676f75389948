/** Typed errors. Each has a stable `code`; those about parties name them. */

import type { Progress } from "./outcome.js";

/** Base of all errors of this package. */
export class KmsError extends Error {
  /** Stable code. */
  readonly code: string;
  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
    this.code = code;
  }
}

/** A request that no party would answer, or that does not fit the committee or the key pair. */
export class RequestError extends KmsError {}

/** More responses are needed. */
export class UndecidedError extends KmsError {
  /** Who has answered what. */
  readonly progress: Progress;
  constructor(progress: Progress) {
    const list = (parties: readonly number[]) => (parties.length ? parties.join(", ") : "none");
    super(
      "Undecided",
      `not decided: ${progress.shares.length} shares that fit together, ${progress.needed} agreeing ones are needed; ` +
        `wrong: ${list(progress.wrong.map((w) => w.party))}; ` +
        `elsewhere: ${list(progress.elsewhere.map((e) => e.party))}; missing: ${list(progress.missing)}`,
    );
    this.progress = progress;
  }
}

/** Final: 2t + 1 parties agree on blocks that no honest ciphertext has. */
export class RefusedError extends KmsError {
  /** The first handle without a value. */
  readonly handle: string;
  /** Who has answered what. */
  readonly progress: Progress;
  constructor(handle: string, code: "Residual" | "Padding" | "Width", progress: Progress) {
    super(code, `handle ${handle} has no value: ${code}`);
    this.handle = handle;
    this.progress = progress;
  }
}

/** The relayer refused, could not be reached, or answered something else than its API says. */
export class RelayerError extends KmsError {
  /** HTTP status, 0 if there was none. */
  readonly status: number;
  constructor(code: string, message: string, status = 0, options?: ErrorOptions) {
    super(code, message, options);
    this.status = status;
  }
}

/** Values that can't be encrypted as one list, or not here. */
export class InputError extends KmsError {}

/** A coprocessor refused, could not be reached, or answered something else than its API says. */
export class CoprocessorError extends KmsError {
  /** HTTP status, 0 if there was none. */
  readonly status: number;
  constructor(code: string, message: string, status = 0, options?: ErrorOptions) {
    super(code, message, options);
    this.status = status;
  }
}
