/** One way to the server: the key is sent, and whatever goes wrong has a name. */

import { session } from "../session";

/** The server refused or failed; `retryAfterS` says when to try again, if it said so. */
export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code: string | null = null,
    readonly retryAfterS: number | null = null,
  ) {
    super(message);
    this.name = "ApiError";
  }

  get isOverload(): boolean {
    return this.status === 429 || this.status === 503;
  }
}

/** The server was not reached, or the connection broke off. */
export class OfflineError extends Error {
  constructor(message = "The connection to the server is lost.") {
    super(message);
    this.name = "OfflineError";
  }
}

export interface RequestOptions {
  method?: string;
  json?: unknown;
  body?: BodyInit;
  signal?: AbortSignal;
}

export function keyHeaders(): Record<string, string> {
  const { key } = session.getState();
  return key === null ? {} : { authorization: `Bearer ${key}` };
}

/** @throws ApiError, OfflineError, or the signal's reason. */
export async function request(path: string, options: RequestOptions = {}): Promise<Response> {
  const headers: Record<string, string> = { accept: "application/json", ...keyHeaders() };
  const init: RequestInit = { method: options.method ?? "GET", headers };
  if (options.json !== undefined) {
    headers["content-type"] = "application/json";
    init.body = JSON.stringify(options.json);
  } else if (options.body !== undefined) init.body = options.body;
  if (options.signal) init.signal = options.signal;
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new OfflineError();
  }
  if (response.ok) return response;
  const refused = await errorOf(response);
  if (refused.status === 401) session.getState().refuse(refused.message);
  throw refused;
}

export async function requestJson<T>(path: string, options: RequestOptions = {}): Promise<T> {
  const response = await request(path, options);
  try {
    return (await response.json()) as T;
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new OfflineError("The server's answer broke off.");
  }
}

/** Reads OpenAI's error object out of a refusal, whatever it is. */
export async function errorOf(response: Response): Promise<ApiError> {
  const text = await response.text().catch(() => "");
  return apiError(response.status, text, response.headers.get("retry-after"));
}

export function apiError(status: number, body: string, retryAfter: string | null): ApiError {
  const seconds = retryAfter === null ? Number.NaN : Number(retryAfter);
  const wait = Number.isFinite(seconds) ? Math.max(0, seconds) : null;
  try {
    const { error } = JSON.parse(body);
    return new ApiError(String(error.message), status, error.code === null ? null : String(error.code), wait);
  } catch {
    return new ApiError(`The server answered with status ${status}.`, status, null, wait);
  }
}
