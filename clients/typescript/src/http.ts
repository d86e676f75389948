/** HTTP with bounded answers, to one configured base URL and to nothing else. */

import { KmsError } from "./errors.js";

/** An error with the server's label as `code`, or one of ours: `Unreachable`, `TooLarge`, `Malformed`, `Http`. */
export type HttpErrorClass = new (code: string, message: string, status?: number, options?: ErrorOptions) => KmsError;

/** Where a server is, and how to reach it. */
export interface HttpOptions {
  /** Base URL, for example `https://relayer.example.org/`. */
  readonly url: string;
  /** Key that the server's operator has given out, sent with every call. */
  readonly apiKey?: string;
  /** Another `fetch`, for tests or special transports. */
  readonly fetch?: typeof globalThis.fetch;
  /** Most bytes of a JSON answer; 8 MiB if absent. */
  readonly maxBytes?: number;
}

/** A parsed answer. */
export interface JsonAnswer {
  readonly status: number;
  /** The object that was answered; empty if it was none. */
  readonly body: Record<string, unknown>;
  /** When to ask again. */
  readonly retryAfterMs: number;
}

/** A server: no redirects, no cookies. */
export class Http {
  private readonly base: string;
  private readonly fetch: typeof globalThis.fetch;
  private readonly maxBytes: number;
  private readonly apiKey: string | undefined;

  constructor(
    options: HttpOptions,
    private readonly what: string,
    private readonly failure: HttpErrorClass,
  ) {
    const url = new URL(options.url);
    if (url.protocol !== "https:" && url.protocol !== "http:") throw new TypeError(`no HTTP URL: ${options.url}`);
    this.base = `${url.origin}${url.pathname.replace(/\/+$/, "")}`;
    this.fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
    this.apiKey = options.apiKey;
    this.maxBytes = options.maxBytes ?? 8 * 1024 * 1024;
  }

  /** A call whose answer is JSON. Throws for every status but 200 and 202. */
  async json(method: "GET" | "POST", path: string, signal?: AbortSignal, json?: unknown): Promise<JsonAnswer> {
    const headers: Record<string, string> = { accept: "application/json" };
    const init: RequestInit = { method, headers };
    if (json !== undefined) {
      init.body = JSON.stringify(json);
      headers["content-type"] = "application/json";
    }
    const { response, bytes } = await this.call(path, init, this.maxBytes, signal);
    const body = parse(bytes);
    if (response.status !== 200 && response.status !== 202) throw this.refusal(response.status, body);
    const retry = Number(response.headers.get("retry-after") ?? "1");
    const retryAfterMs = 1000 * (Number.isFinite(retry) ? Math.min(Math.max(retry, 0.2), 300) : 1);
    return { status: response.status, body, retryAfterMs };
  }

  /** The bytes of a file of at most `maxBytes`. */
  async file(path: string, maxBytes: number, signal?: AbortSignal): Promise<Uint8Array> {
    const { response, bytes } = await this.call(path, { method: "GET" }, maxBytes, signal);
    if (response.status !== 200) throw this.refusal(response.status, parse(bytes));
    return bytes;
  }

  private async call(path: string, init: RequestInit, maxBytes: number, signal?: AbortSignal) {
    const headers = { ...(init.headers as Record<string, string> | undefined), ...(this.apiKey !== undefined && { authorization: `Bearer ${this.apiKey}` }) };
    const whole: RequestInit = { ...init, headers, redirect: "error", credentials: "omit" };
    if (signal) whole.signal = signal;
    try {
      const response = await this.fetch(this.base + path, whole);
      return { response, bytes: await this.read(response, maxBytes) };
    } catch (cause) {
      if (cause instanceof KmsError || signal?.aborted) throw cause;
      throw new this.failure("Unreachable", `the ${this.what} can't be reached: ${(cause as Error).message}`, 0, { cause });
    }
  }

  private refusal(status: number, body: Record<string, unknown>): KmsError {
    const error = (body["error"] ?? {}) as Record<string, unknown>;
    const code = typeof error["label"] === "string" ? error["label"].slice(0, 64) : "Http";
    const message = typeof error["message"] === "string" ? error["message"].slice(0, 400) : `HTTP ${status}`;
    return new this.failure(code, message, status);
  }

  private async read(response: Response, maxBytes: number): Promise<Uint8Array> {
    const reader = response.body?.getReader();
    if (!reader) return new Uint8Array();
    const parts: Uint8Array[] = [];
    let size = 0;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      size += value.length;
      if (size > maxBytes) {
        await reader.cancel();
        throw new this.failure("TooLarge", `an answer of more than ${maxBytes} bytes`, response.status);
      }
      parts.push(value);
    }
    const all = new Uint8Array(size);
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }
}

function parse(bytes: Uint8Array): Record<string, unknown> {
  try {
    const parsed: unknown = JSON.parse(new TextDecoder().decode(bytes));
    if (typeof parsed === "object" && parsed !== null) return parsed as Record<string, unknown>;
  } catch {
    // Whoever needs a field of it says that it is missing, with the status.
  }
  return {};
}
