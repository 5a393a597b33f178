/** Sends files to the server: whole, or in parts where they are large. */

import { session } from "../session";
import { apiError, keyHeaders, OfflineError, request, requestJson } from "./http";

const PURPOSE = "assistants";

/** The file cannot be read from the disk (any more). */
export class UnreadableError extends Error {
  constructor() {
    super("The file cannot be read any more: it was moved, changed or deleted.");
    this.name = "UnreadableError";
  }
}

/** How one file is sent; `patiently` may try a request several times. */
export interface Sending {
  signal: AbortSignal;
  maxPartBytes: number;
  onProgress(sentBytes: number): void;
  patiently<T>(attempt: () => Promise<T>): Promise<T>;
}

/** What carries the requests. */
export interface Carrier {
  json<T>(path: string, body: unknown, signal?: AbortSignal): Promise<T>;
  form<T>(
    path: string,
    form: FormData,
    signal: AbortSignal,
    onProgress: (sentBytes: number) => void,
  ): Promise<T>;
}

/** Where each part of a file begins and ends, in order. */
export function partsOf(size: number, maxPartBytes: number): { start: number; end: number }[] {
  const count = Math.ceil(size / maxPartBytes);
  return Array.from({ length: count }, (_, number) => ({
    start: number * maxPartBytes,
    end: Math.min(size, (number + 1) * maxPartBytes),
  }));
}

/**
 * Stores a file on the server and returns its id.
 *
 * @throws UnreadableError, ApiError, OfflineError, or the signal's reason.
 */
export async function sendFile(file: File, sending: Sending, carrier: Carrier = network): Promise<string> {
  try {
    return await (file.size > sending.maxPartBytes ? inParts : whole)(file, sending, carrier);
  } catch (error) {
    // A browser tells a file that is gone from a broken connection only when it is read.
    if (error instanceof OfflineError && !(await isReadable(file))) throw new UnreadableError();
    throw error;
  }
}

/** Removes an uploaded file from the server. */
export async function deleteFile(fileId: string): Promise<void> {
  await request(`/v1/files/${encodeURIComponent(fileId)}`, { method: "DELETE" });
}

async function whole(file: File, sending: Sending, carrier: Carrier): Promise<string> {
  const form = new FormData();
  form.append("purpose", PURPOSE);
  form.append("file", file, file.name);
  const send = () => carrier.form<{ id: string }>("/v1/files", form, sending.signal, sending.onProgress);
  return (await sending.patiently(send)).id;
}

async function inParts(file: File, sending: Sending, carrier: Carrier): Promise<string> {
  const { signal, patiently } = sending;
  const announced = { filename: file.name, purpose: PURPOSE, bytes: file.size, mime_type: mimeType(file) };
  const begin = () => carrier.json<{ id: string }>("/v1/uploads", announced, signal);
  const path = `/v1/uploads/${encodeURIComponent((await patiently(begin)).id)}`;
  try {
    const part_ids: string[] = [];
    for (const { start, end } of partsOf(file.size, sending.maxPartBytes)) {
      const form = new FormData();
      form.append("data", file.slice(start, end), "part");
      const onProgress = (sentBytes: number) => sending.onProgress(start + Math.min(sentBytes, end - start));
      const send = () => carrier.form<{ id: string }>(`${path}/parts`, form, signal, onProgress);
      part_ids.push((await patiently(send)).id);
      sending.onProgress(end);
    }
    const complete = () => carrier.json<{ file: { id: string } }>(`${path}/complete`, { part_ids }, signal);
    return (await patiently(complete)).file.id;
  } catch (error) {
    // The server drops the parts by itself after a while, if this does not reach it.
    carrier.json(`${path}/cancel`, {}).catch(() => undefined);
    throw error;
  }
}

/** The type that the browser takes it for, if the server takes that for one. */
function mimeType(file: File): string {
  return /^[!-.0-~]+\/[!-.0-~]+$/.test(file.type) && file.type.length < 256
    ? file.type
    : "application/octet-stream";
}

async function isReadable(file: File): Promise<boolean> {
  return file
    .slice(0, 1)
    .arrayBuffer()
    .then(
      () => true,
      () => false,
    );
}

/** XMLHttpRequest, since fetch does not tell how much was sent. */
export const network: Carrier = {
  json: (path, body, signal) =>
    requestJson(path, { method: "POST", json: body, ...(signal ? { signal } : {}) }),

  form: (path, form, signal, onProgress) =>
    new Promise((resolve, reject) => {
      signal.throwIfAborted();
      const sent = new XMLHttpRequest();
      const abort = () => sent.abort();
      sent.open("POST", path);
      for (const [name, value] of Object.entries({ accept: "application/json", ...keyHeaders() }))
        sent.setRequestHeader(name, value);
      sent.upload.onprogress = ({ loaded }) => onProgress(loaded);
      sent.onload = () => {
        try {
          resolve(answerOf(sent));
        } catch (error) {
          reject(error);
        }
      };
      sent.onerror = () => reject(new OfflineError());
      sent.onabort = () => reject(signal.reason);
      sent.onloadend = () => signal.removeEventListener("abort", abort);
      signal.addEventListener("abort", abort);
      sent.send(form);
    }),
};

function answerOf<T>(sent: XMLHttpRequest): T {
  if (sent.status >= 200 && sent.status < 300) {
    try {
      return JSON.parse(sent.responseText) as T;
    } catch {
      throw new OfflineError("The server's answer broke off.");
    }
  }
  const refused = apiError(sent.status, sent.responseText, sent.getResponseHeader("retry-after"));
  if (refused.status === 401) session.getState().refuse(refused.message);
  throw refused;
}
