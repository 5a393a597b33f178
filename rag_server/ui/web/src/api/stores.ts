/** Collections (the API calls them vector stores), their files, and searching in them. */

import { request, requestJson } from "./http";
import type { Attributes, FileState, List, Passage, StoreFile, VectorStore } from "./shapes";

/** The most that the server lists at once. */
export const PAGE_FILES = 100;
const MAX_RESULTS = 20;

/** A passage that a search without an answer found. */
export interface Hit {
  file_id: string;
  filename: string;
  score: number;
  content: { type: "text"; text: string }[];
  rag: { passage_id: number; title: string; place: Record<string, string | number> };
}

/** How a file was cut: sent back when it is indexed again, so that it stays as it was. */
type ChunkingStrategy = { type: "other" } | { type: "static"; static: Record<string, number> };

/** A file as the server describes it; `principals`, where they are shown, are the only ones who may read it. */
type FullStoreFile = Omit<StoreFile, "rag"> & {
  chunking_strategy?: ChunkingStrategy;
  rag: StoreFile["rag"] & { principals?: string[] | null };
};

export interface FilePage {
  after?: string;
  filter?: FileState;
}

function pathOf(...parts: string[]): string {
  return ["/v1/vector_stores", ...parts.map(encodeURIComponent)].join("/");
}

/** All collections, the newest first. */
export async function listStores(): Promise<VectorStore[]> {
  const stores: VectorStore[] = [];
  for (let after = ""; ; ) {
    const page: List<VectorStore> = await requestJson(`/v1/vector_stores?limit=100${after}`);
    stores.push(...page.data);
    if (!page.has_more || page.last_id === null) return stores;
    after = `&after=${encodeURIComponent(page.last_id)}`;
  }
}

export function getStore(storeId: string): Promise<VectorStore> {
  return requestJson(pathOf(storeId));
}

export function createStore(name: string): Promise<VectorStore> {
  return requestJson("/v1/vector_stores", { method: "POST", json: { name } });
}

export function renameStore(storeId: string, name: string): Promise<VectorStore> {
  return requestJson(pathOf(storeId), { method: "POST", json: { name } });
}

/** Deletes a collection with all that was read out of its files; the uploaded files stay. */
export async function deleteStore(storeId: string): Promise<void> {
  await request(pathOf(storeId), { method: "DELETE" });
}

/** A page of a collection's files, the newest first. */
export function listFiles(storeId: string, { after, filter }: FilePage = {}): Promise<List<StoreFile>> {
  const asked = new URLSearchParams({ limit: String(PAGE_FILES) });
  if (after !== undefined) asked.set("after", after);
  if (filter !== undefined) asked.set("filter", filter);
  return requestJson(`${pathOf(storeId, "files")}?${asked}`);
}

/** Has an uploaded file read into a collection. */
export function attachFile(
  storeId: string,
  fileId: string,
  attributes: Attributes,
  signal: AbortSignal,
): Promise<StoreFile> {
  return requestJson(pathOf(storeId, "files"), {
    method: "POST",
    json: { file_id: fileId, attributes },
    signal,
  });
}

/** Has a file read again, with all else as it was: attaching replaces whatever is not sent. */
export function readAgain(file: StoreFile): Promise<StoreFile> {
  const { id, vector_store_id, attributes, chunking_strategy: cut, rag }: FullStoreFile = file;
  return requestJson(pathOf(vector_store_id, "files"), {
    method: "POST",
    json: {
      file_id: id,
      attributes,
      ...(cut?.type === "static" ? { chunking_strategy: cut } : {}),
      ...(rag.principals ? { rag: { principals: rag.principals } } : {}),
    },
  });
}

export function setAttributes(file: StoreFile, attributes: Attributes): Promise<StoreFile> {
  return requestJson(pathOf(file.vector_store_id, "files", file.id), {
    method: "POST",
    json: { attributes },
  });
}

export function cancelFile(file: StoreFile): Promise<StoreFile> {
  return requestJson(pathOf(file.vector_store_id, "files", file.id, "cancel"), { method: "POST" });
}

/** Takes a file out of its collection; the uploaded file stays. */
export async function detachFile(file: StoreFile): Promise<void> {
  await request(pathOf(file.vector_store_id, "files", file.id), { method: "DELETE" });
}

/** The passage that a file begins with; null if nothing was read out of it. */
export async function firstPassage(file: StoreFile): Promise<Passage | null> {
  const path = pathOf(file.vector_store_id, "files", file.id, "passages");
  const { data } = await requestJson<List<Passage>>(`${path}?limit=1`);
  return data[0] ?? null;
}

/** The passages of a collection that fit the words best. */
export async function searchStore(storeId: string, query: string, signal: AbortSignal): Promise<Hit[]> {
  const { data } = await requestJson<List<Hit>>(pathOf(storeId, "search"), {
    method: "POST",
    json: { query, max_num_results: MAX_RESULTS },
    signal,
  });
  return data;
}
