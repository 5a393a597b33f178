/** What the viewer asks the server for. */

import { OfflineError, request, requestJson } from "../api/http";
import type { List, Passage } from "../api/shapes";

/** A passage, the collection it is in, and how many characters its document has. */
export interface PassageDetail extends Passage {
  vector_store_id: string;
  characters: number;
}

/** A stretch of a document's text; offsets count characters from the start of the document. */
export interface PassageText {
  characters: number;
  start: number;
  end: number;
  text: string;
}

export interface Range {
  start: number;
  end: number;
}

export function passageDetail(id: number, signal: AbortSignal): Promise<PassageDetail> {
  return requestJson(`/v1/passages/${id}`, { signal });
}

/** Without a range the server sends the whole text, or what is around the passage. */
export function passageText(id: number, range: Range | null, signal: AbortSignal): Promise<PassageText> {
  const query = range === null ? "" : `?start=${range.start}&end=${range.end}`;
  return requestJson(`/v1/passages/${id}/text${query}`, { signal });
}

/** The file as it was indexed. @throws ApiError (404: it has changed or gone since), OfflineError. */
export async function original(id: number, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
  const response = await request(`/v1/passages/${id}/original`, signal ? { signal } : {});
  try {
    return new Uint8Array(await response.arrayBuffer());
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new OfflineError("The file broke off.");
  }
}

/** The passages of a file after (or, descending, before) one of them. */
export function filePassages(
  of: Pick<PassageDetail, "vector_store_id" | "file_id">,
  { after, order, limit }: { after: number; order: "asc" | "desc"; limit: number },
  signal: AbortSignal,
): Promise<List<Passage>> {
  const file = `/v1/vector_stores/${encodeURIComponent(of.vector_store_id)}/files/${encodeURIComponent(of.file_id)}`;
  return requestJson(`${file}/passages?limit=${limit}&after=${after}&order=${order}`, { signal });
}
