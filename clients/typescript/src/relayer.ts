/** A relayer's API for user decryptions (docs/spec/user-decryption.md). Talks to the configured URL and to nothing else. */

import { type Hex, tryFromHex } from "./bytes.js";
import { type UserDecryption, type UserResponse } from "./decryption.js";
import { RefusedError, RelayerError, UndecidedError } from "./errors.js";
import { Http, type HttpOptions } from "./http.js";
import type { Progress, Reconstruction } from "./outcome.js";
import type { UserRequest } from "./permit.js";

/** Options of a {@link Relayer}. */
export type RelayerOptions = HttpOptions;

/** What a relayer has collected. */
export interface Collected {
  /** Responses so far. The relayer has authenticated them, which counts for nothing here. */
  readonly shares: readonly UserResponse[];
  /** Whether more may come. */
  readonly collecting: boolean;
}

/** A job at the relayer, and when to ask again. */
export interface Queued {
  readonly jobId: Hex;
  readonly retryAfterMs: number;
}

/** Most responses that are read of one answer: n is at most 31. */
const MAX_SHARES = 64;

/** The body of `POST /v2/user-decrypt`, or of `/v2/delegated-user-decrypt` with `delegatorAddress`. */
export interface UserDecryptBody {
  readonly handleContractPairs: readonly { readonly handle: Hex; readonly contractAddress: Hex }[];
  readonly requestValidity: { readonly startTimestamp: string; readonly durationDays: string };
  readonly contractsChainId: string;
  readonly contractAddresses: readonly Hex[];
  readonly userAddress: Hex;
  readonly delegatorAddress?: Hex;
  readonly signature: Hex;
  readonly publicKey: Hex;
  readonly extraData: Hex;
}

/** The body for a request. */
export function userDecryptBody(request: UserRequest): UserDecryptBody {
  const { permit } = request;
  return {
    handleContractPairs: request.pairs.map(({ handle, contract }) => ({ handle, contractAddress: contract })),
    requestValidity: { startTimestamp: permit.start.toString(), durationDays: permit.days.toString() },
    contractsChainId: request.hostChainId.toString(),
    contractAddresses: permit.contracts,
    userAddress: permit.user,
    ...(permit.delegator !== undefined && { delegatorAddress: permit.delegator }),
    signature: request.signature,
    publicKey: permit.publicKey,
    extraData: permit.extraData,
  };
}

/** Options of {@link Relayer.decrypt}. */
export interface DecryptOptions {
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
  readonly onProgress?: (progress: Progress) => void;
}

/** A relayer. */
export class Relayer {
  private readonly http: Http;

  constructor(options: RelayerOptions) {
    this.http = new Http(options, "relayer", RelayerError);
  }

  private path(request: UserRequest): string {
    return `/v2/${request.permit.delegator === undefined ? "" : "delegated-"}user-decrypt`;
  }

  /** Asks for a decryption. Equal requests are one job. */
  async submit(request: UserRequest, signal?: AbortSignal): Promise<Queued> {
    const { status, body, retryAfterMs } = await this.http.json("POST", this.path(request), signal, userDecryptBody(request));
    const jobId = (body["result"] as Record<string, unknown> | undefined)?.["jobId"];
    const bytes = tryFromHex(jobId, 32);
    if (status !== 202 || !bytes) throw new RelayerError("Malformed", `an answer without a job`, status);
    return { jobId: jobId as Hex, retryAfterMs };
  }

  /** What the relayer has collected; `undefined` while there are fewer than 2t + 1 responses. */
  async status(request: UserRequest, jobId: Hex, signal?: AbortSignal): Promise<(Collected & { retryAfterMs: number }) | { retryAfterMs: number }> {
    if (!tryFromHex(jobId, 32)) throw new TypeError("no job id");
    const { status, body, retryAfterMs } = await this.http.json("GET", `${this.path(request)}/${jobId}`, signal);
    if (status === 202) return { retryAfterMs };
    const result = body["result"] as Record<string, unknown> | undefined;
    const shares = result?.["shares"];
    if (!Array.isArray(shares)) throw new RelayerError("Malformed", "an answer without shares", status);
    return { shares: shares.slice(0, MAX_SHARES).map(readShare), collecting: result?.["collecting"] === true, retryAfterMs };
  }

  /**
   * Asks, collects, and reconstructs as soon as the responses decide the values. Gives up with {@link UndecidedError} when
   * the relayer collects no more, or when `timeoutMs` (60 s if absent) is over. `onProgress` hears of every read that brought
   * responses.
   */
  async decrypt(decryption: UserDecryption, options: DecryptOptions = {}): Promise<Reconstruction> {
    const deadline = Date.now() + (options.timeoutMs ?? 60_000);
    const { signal } = options;
    const job = await this.submit(decryption.request, signal);
    let pause = job.retryAfterMs;
    for (;;) {
      await sleep(Math.min(pause, Math.max(0, deadline - Date.now())), signal);
      const state = await this.status(decryption.request, job.jobId, signal);
      pause = state.retryAfterMs;
      let undecided: UndecidedError | undefined;
      if ("shares" in state) {
        for (const share of state.shares) decryption.add(share);
        options.onProgress?.(decryption.progress());
        try {
          return decryption.reconstruct();
        } catch (error) {
          if (error instanceof RefusedError || !(error instanceof UndecidedError)) throw error;
          undecided = error;
        }
        if (!state.collecting) throw undecided;
      }
      if (Date.now() >= deadline) throw undecided ?? new RelayerError("Timeout", "no answer in time");
    }
  }
}

function readShare(value: unknown): UserResponse {
  const field = (name: string): Hex => {
    const text = (value as Record<string, unknown> | null)?.[name];
    const hex = typeof text === "string" ? text.replace(/^0x/, "") : "-";
    return `0x${hex}`;
  };
  return { share: field("share"), signature: field("signature"), extraData: field("extraData") };
}

function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason as Error);
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
